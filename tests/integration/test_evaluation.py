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


def test_without_a_network(trained, workplace):
    command = [sys.executable, ROOT / "eval.py", "eval/corpus=wikitext2"]
    environment = ONE_THREAD | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(workplace)}
    result = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: Salesforce/wikitext: not fetched")
    assert result.stderr.endswith("type eval.corpus.file=FILE\n")
    assert result.stderr.count("\n") == 1
