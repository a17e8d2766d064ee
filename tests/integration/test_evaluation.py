"""eval.py with its parts, protocols and corpora, and what it says when a text cannot be read or fetched."""

import json
import shutil

import pyarrow
import pytest
from pyarrow import parquet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpt2lab.evaluation.tasks.blimp import PARADIGMS
from tests.hub_server import hub_server
from tests.integration.conftest import ONE_THREAD, ROOT, TINY, run_processes
from tests.unit.training.test_loggers import finished_wandb_records, items

QUESTION = {"activity_label": "A", "ctx_a": "He sits", "ctx_b": "and", "endings": ["a", "b c", "d", "e"], "label": 2}


def evaluations_in(path):
    return json.loads(path.read_text())["evaluations"]


def test_parts_in_one_table(run, trained, workplace):
    (workplace / "questions").mkdir()
    (workplace / "questions" / "hellaswag.jsonl").write_text(f"{json.dumps(QUESTION)}\n" * 3)
    (workplace / "questions" / "lambada_openai.jsonl").write_text('{"text": "import argparse"}\n' * 2)
    shown = run(
        "eval.py", "eval=tasks", "eval.parts=[tasks,perplexity]", "eval.tasks.names=[hellaswag,lambada_openai]",
        "eval.tasks.folder=questions", "eval.tasks.limit=2", "eval.stride=32",
    ).stdout  # fmt: skip
    names = [line.split("  ")[0] for line in shown.splitlines()]
    assert (
        names.index("hellaswag acc_norm") < names.index("lambada_openai perplexity") < names.index("token_perplexity")
    )
    tasks, record = evaluations_in(workplace / "runs" / "trained" / "eval.json")[-2:]
    assert tasks["hellaswag"]["questions"] == 2
    assert record["protocol"]["stride"] == record["job"]["eval"]["stride"] == 32
    assert record["environment"]["packages"]["torch"]
    manifest = json.loads((workplace / "runs" / "trained" / "checkpoints" / "last" / "checkpoint.json").read_text())
    assert record["weights_sha256"]["model.safetensors"] in json.dumps(manifest)

    (workplace / "wiki.txt").write_text(" \n = One = \n \n It is 5 @.@ 5 m . \n = Two = \n \n No . \n")
    corpus = ["eval/corpus=wikitext2", "eval.corpus.file=wiki.txt"]
    run("eval.py", *corpus, "eval.protocol=lm_eval", "out=lm_eval.json")
    (record,) = evaluations_in(workplace / "lm_eval.json")
    assert record["documents"] == 2
    # by white space, and "" at both ends of an article that begins and ends with it, as re.split counts
    assert record["words"] == (3 + 7 + 2) + (3 + 2 + 2)
    assert record["tokens"] < record["bytes"]


def test_sampling_and_context_in_full(run, trained, workplace):
    small = [
        "eval.sample_quality.num_prompts=4",
        "eval.sample_quality.prompt_tokens=16",
        "eval.sample_quality.new_tokens=16",
    ]
    grid = "eval.sample_quality.decoding=[{temperature:0},{top_k:5,temperature:0.7}]"
    few = ["eval.context.block_tokens=8", "eval.context.num_blocks=4", "eval.context.position_windows=2"]
    shown = run("eval.py", "eval=full", *small, grid, *few, "out=results/eval.json")
    titles = ("Perplexity of validation_split", "Sample quality: 4 prompts", "Use of context: trained on 64 tokens")
    places = [shown.stdout.index(title) for title in titles]
    assert places == sorted(places)
    assert max(map(len, shown.stdout.partition(titles[0])[2].splitlines())) <= 100
    assert "contexts above 64 tokens are left out: model.positions=learned ends at 64" in shown.stdout
    _, quality, context = evaluations_in(workplace / "results" / "eval.json")
    assert list(quality["settings"]) == ["greedy", "top_k=5 temperature=0.7"]
    assert quality["job"]["eval"]["sample_quality"]["decoding"][1] == {"temperature": 0.7, "top_k": 5, "top_p": None}
    assert len((workplace / "results" / f"{quality['id']}.samples.jsonl").read_text().splitlines()) == 3 * 4
    for plot in (quality["id"], f"{context['id']}.by_position", f"{context['id']}.by_context"):
        assert (workplace / "results" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_network(trained, workplace):
    environment = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(workplace)}
    (result,) = run_processes(workplace, ROOT / "eval.py", "eval/corpus=wikitext2", environment=environment)
    assert result.returncode == 2
    assert result.stderr.startswith("error: Salesforce/wikitext: not fetched")
    assert result.stderr.endswith("type eval.corpus.file=FILE\n")
    assert result.stderr.count("\n") == 1


def test_blimp_from_the_hub(trained, workplace):
    """Fetched from a server, from the cache when the server is gone, and from a folder: the same questions."""
    repository, folder = workplace / "hub" / "nyu-mll" / "blimp", workplace / "questions" / "blimp"
    folder.mkdir(parents=True)
    for number, part in enumerate(PARADIGMS):
        pairs = [minimal_pair(part, f"cat {number} {i}", f"term_{number % 3}") for i in range(2)]
        (folder / f"{number:02}.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
        (repository / part).mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(pairs), repository / part / "train-00000-of-00001.parquet")
    subsets = "".join(f"- config_name: {part}\n  data_files: {part}/train-*\n" for part in PARADIGMS)
    (repository / "README.md").write_text(f"---\nconfigs:\n{subsets}---\n")

    def run_eval(name, *settings, cache="cache"):
        command = ["checkpoint=runs/trained", "eval=tasks", f"out={name}.json", "eval.tasks.names=[blimp]", *settings]
        hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(workplace / cache), "HF_HUB_OFFLINE": "0"}
        environment = hub | {"NO_PROXY": "127.0.0.1"}
        (result,) = run_processes(workplace, ROOT / "eval.py", *command, environment=environment)
        return result

    def evaluate(name, *settings):
        result = run_eval(name, *settings)
        assert result.returncode == 0, result.stderr
        return evaluations_in(workplace / f"{name}.json")[-1]["blimp"]

    with hub_server(workplace / "hub") as (endpoint, requests):
        fetched, limited = evaluate("fetched"), evaluate("limited", "eval.tasks.limit=1")
    assert sum(request.endswith(".parquet") for request in requests) == 2 * len(PARADIGMS)  # HEAD and GET, once
    cached, local = evaluate("cached"), evaluate("local", "eval.tasks.folder=questions")
    assert fetched["questions"] == 2 * limited["questions"] == 2 * 67
    assert fetched == cached
    assert fetched["source"] == {"path": "nyu-mll/blimp", "subset": None, "revision": None, "split": "train"}
    assert fetched | {"source": None} == local | {"source": None}
    assert {"acc", "acc term_0", "acc term_1", "acc term_2"} < fetched.keys()
    missed = run_eval("missed", cache="empty")
    assert missed.returncode == 2
    assert missed.stderr.startswith("error: nyu-mll/blimp: not fetched")
    assert "FOLDER/blimp/PART.jsonl" in missed.stderr
    assert missed.stderr.endswith("type eval.tasks.folder=FOLDER\n")
    assert missed.stderr.count("\n") == 1


def minimal_pair(part, subject, term):
    """A pair with the columns of BLiMP that are read, and one more."""
    good, bad = f"The {subject} sits.", f"The {subject} sit."
    return {"sentence_good": good, "sentence_bad": bad, "linguistics_term": term, "UID": part}


def test_two_models_on_the_same_documents(run, trained, workplace):
    shown = run("eval.py", "checkpoint=runs/trained", "baseline=runs/trained", "out=pair/eval.json").stdout
    assert "undecided (paired over" in shown
    (record,) = evaluations_in(workplace / "pair" / "eval.json")
    assert record["comparison"]["nats_per_token"] == 0
    lines = [json.loads(line) for line in (workplace / "pair" / "documents.jsonl").read_text().splitlines()]
    assert len(lines) == record["comparison"]["documents"] == record["documents"]
    assert sum(line["nats"] for line in lines) == pytest.approx(record["nll"])


def test_every_run_of_a_sweep(run, trained, workplace):
    for name in ("positions=rope", "positions=none", "damaged"):
        shutil.copytree(workplace / "runs" / "trained", workplace / "sweep" / name, symlinks=True)
    weights = workplace / "sweep" / "damaged" / "checkpoints" / "last" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    ended = run("eval.py", "checkpoint=sweep")
    shown = ended.stdout
    assert "damaged is left out: " in shown + ended.stderr
    table = shown[shown.rindex("run  ") :].splitlines()
    assert [line.split()[0] for line in table[1:3]] == ["positions=none", "positions=rope"]
    for name in ("positions=rope", "positions=none"):
        assert (workplace / "sweep" / name / "eval.json").is_file()


@pytest.mark.slow
def test_evaluation_is_in_the_wandb_run_and_the_event_files_of_the_training(run, workplace, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setitem(ONE_THREAD, "WANDB_MODE", "offline")
    run("train.py", *TINY, "run_dir=run", "training.max_steps=2", "logger.names=[wandb,tensorboard]")
    before = set((workplace / "run" / "wandb").glob("offline-run-*"))
    run("eval.py", "checkpoint=run")
    (added,) = set((workplace / "run" / "wandb").glob("offline-run-*")) - before
    records = finished_wandb_records(workplace / "run", added.name)
    run_id = json.loads((workplace / "run" / "summary.json").read_text())["run_id"]
    assert next(record.run for record in records if record.HasField("run")).run_id == run_id
    logged = {}
    for record in records:
        logged |= items(record.summary.update)
    (entry,) = evaluations_in(workplace / "run" / "eval.json")
    name = "eval/validation_split/stream/bits_per_byte"
    assert logged[name] == pytest.approx(entry["bits_per_byte"])
    events = EventAccumulator(str(workplace / "run" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars(name)] == [(2, pytest.approx(entry["bits_per_byte"]))]
