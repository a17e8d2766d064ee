"""eval.py with its parts, protocols and corpora, and what it says when a text cannot be had."""

import json
import subprocess
import sys

from tests.integration.conftest import ONE_THREAD, ROOT

QUESTION = {"activity_label": "A", "ctx_a": "He sits", "ctx_b": "and", "endings": ["a", "b c", "d", "e"], "label": 2}


def test_parts_in_one_table(run, trained, workplace):
    (workplace / "questions").mkdir()
    (workplace / "questions" / "hellaswag.jsonl").write_text(f"{json.dumps(QUESTION)}\n" * 3)
    (workplace / "questions" / "lambada_openai.jsonl").write_text('{"text": "import argparse"}\n' * 2)
    shown = run(
        "eval.py", "eval=tasks", "eval.parts=[tasks,perplexity]", "eval.tasks.names=[hellaswag,lambada_openai]",
        "eval.tasks.folder=questions", "eval.tasks.limit=2", "eval.stride=32",
    ).stdout  # fmt: skip
    names = [line.split("  ")[0] for line in shown.split("figure ")[1].splitlines()]
    assert "hellaswag acc_norm" in names
    assert names.index("lambada_openai perplexity") < names.index("token_perplexity")
    record = json.loads((workplace / "runs" / "trained" / "eval.json").read_text())
    assert record["tasks"]["hellaswag"]["questions"] == 2
    assert record["protocol"]["stride"] == record["settings"]["eval"]["stride"] == 32
    assert record["environment"]["packages"]["torch"]
    manifest = json.loads((workplace / "runs" / "trained" / "checkpoints" / "last" / "checkpoint.json").read_text())
    assert record["weights_sha256"]["model.safetensors"] in json.dumps(manifest)

    (workplace / "wiki.txt").write_text(" \n = One = \n \n It is 5 @.@ 5 m . \n = Two = \n \n No . \n")
    corpus = ["eval/corpus=wikitext2", "eval.corpus.file=wiki.txt"]
    run("eval.py", *corpus, "eval.protocol=lm_eval", "out=lm_eval.json")
    record = json.loads((workplace / "lm_eval.json").read_text())
    assert record["documents"] == 2
    # by white space, and "" at both ends of an article that begins and ends with it, as re.split counts
    assert record["words"] == (3 + 7 + 2) + (3 + 2 + 2)
    assert record["tokens"] < record["bytes"]


def test_sampling_and_context_in_full(run, trained, workplace):
    small = ["eval.quality.num_prompts=4", "eval.quality.prompt_tokens=16", "eval.quality.new_tokens=16"]
    grid = "eval.quality.decoding=[{temperature:0},{top_k:5,temperature:0.7}]"
    few = ["eval.context.block_tokens=8", "eval.context.num_blocks=4", "eval.context.position_windows=2"]
    shown = run("eval.py", "eval=full", *small, grid, *few, "out=figures/eval.json")
    names = [line.split("  ")[0] for line in shown.stdout.split("figure ")[1].splitlines()]
    places = [names.index(name) for name in ("token_perplexity", "greedy: perplexity", "context 8: token_perplexity")]
    assert places == sorted(places)
    assert "contexts above 64 tokens are left out: model.positions=learned ends at 64" in shown.stdout
    record = json.loads((workplace / "figures" / "eval.json").read_text())
    assert list(record["sampling"]["settings"]) == ["greedy", "top_k=5 temperature=0.7"]
    assert record["settings"]["eval"]["quality"]["decoding"][1] == {"temperature": 0.7, "top_k": 5, "top_p": None}
    assert len((workplace / "figures" / "eval_samples.jsonl").read_text().splitlines()) == 3 * 4
    for picture in ("quality.png", "loss_by_position.png", "perplexity_by_context.png"):
        assert (workplace / "figures" / picture).read_bytes().startswith(b"\x89PNG")


def test_without_a_network(trained, workplace):
    command = [sys.executable, ROOT / "eval.py", "eval/corpus=wikitext2"]
    environment = ONE_THREAD | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(workplace)}
    result = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: Salesforce/wikitext: not fetched")
    assert result.stderr.endswith("type eval.corpus.file=FILE\n")
    assert result.stderr.count("\n") == 1
