"""Which runs of a folder are evaluated; mistakes are found before the work; what is complete is saved."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt2lab.commands import evaluate
from gpt2lab.commands.evaluation import EvaluationResult, is_sweep, sweep_runs, sweep_table
from gpt2lab.config import CorpusConfig, EvalConfig, EvalJob, RuntimeConfig, UserError
from gpt2lab.evaluation.parts import PARTS
from gpt2lab.evaluation.perplexity import evaluate as perplexity
from gpt2lab.evaluation.results import PartResult, TableRow


@pytest.fixture
def make_job(folder, tmp_path):
    (tmp_path / "text.txt").write_text("the fox and the dog " * 20)

    def make(baseline=None, **settings):
        config = EvalConfig(**{"text_file": str(tmp_path / "text.txt"), **settings})
        runtime = RuntimeConfig(device="cpu", precision="fp32")
        return EvalJob(str(folder), baseline=baseline, eval=config, out=str(tmp_path / "eval.json"), runtime=runtime)

    return make


@pytest.fixture
def shorter(folder, tmp_path):
    """The same model with a context of 32 tokens instead of 64."""
    copy = shutil.copytree(folder, tmp_path / "shorter")
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 32}))
    return str(copy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baseline": True, "stride": 48}, "^baseline=.*/shorter: eval.stride=48: expected 1 to 32 tokens"),
        ({"baseline": True, "stride": 32, "protocol": "huggingface"}, "^baseline=.*/shorter: other bytes were scored"),
        ({"parts": ["perplexity", "context"]}, "tokens, the longest context needs 257"),
        ({"parts": ["perplexity", "sample_quality"]}, "prompt_tokens [+] new_tokens = 96: .* on 64 tokens at once"),
    ],
)
def test_mistakes_are_found_before_the_work(make_job, shorter, tmp_path, monkeypatch, settings, message):
    monkeypatch.setattr(perplexity, "score_plan", None)
    baseline = shorter if settings.get("baseline") else None
    with pytest.raises(UserError, match=message):
        evaluate(make_job(**settings | {"baseline": baseline}))
    assert not (tmp_path / "eval.json").exists()


def test_parts_that_are_complete_are_saved_when_a_later_one_fails(make_job, tmp_path, monkeypatch, caplog):
    def fail():
        raise UserError("no network")

    monkeypatch.setitem(PARTS, "tasks", lambda loaded, config: fail)
    with caplog.at_level("INFO"), pytest.raises(UserError, match="^no network$"):
        evaluate(make_job(parts=["perplexity", "tasks"]))
    (entry,) = json.loads((tmp_path / "eval.json").read_text())["evaluations"]
    assert entry["part"] == "perplexity"
    assert "token_perplexity" in caplog.text
    assert (tmp_path / "documents.jsonl").is_file()


def test_a_text_is_the_same_by_whichever_path_it_is_named(make_job, tmp_path, monkeypatch):
    """So a repeated evaluation replaces the first, and a report pairs the documents of two runs."""
    monkeypatch.chdir(tmp_path)
    by_path = make_job()
    corpus = CorpusConfig("text_file", format="text", file="./text.txt")
    jobs = [by_path, make_job(text_file="text.txt"), dataclasses.replace(by_path, eval=EvalConfig(corpus=corpus))]
    found = []
    for job in jobs:
        evaluate(job)
        (entry,) = json.loads((tmp_path / "eval.json").read_text())["evaluations"]
        (line,) = map(json.loads, (tmp_path / "documents.jsonl").read_text().splitlines())
        assert line["corpus"] == "text.txt"
        found.append((entry["id"], line["evaluation"], line["settings"]))
    assert len(set(found)) == 1
    (tmp_path / "text.txt").write_text("another text " * 20)
    evaluate(by_path)
    assert len(json.loads((tmp_path / "eval.json").read_text())["evaluations"]) == 2


def test_runs_of_a_sweep_are_found_without_links(tmp_path):
    """As they are in a copy by ``rsync -r``, which leaves links out."""
    for name, status in (("a", "completed"), ("b", "stopped"), ("c", "completed"), ("without_checkpoint", "completed")):
        (tmp_path / name / "checkpoints" / "step_00000001").mkdir(parents=True)
        (tmp_path / name / "summary.json").write_text(json.dumps({"status": status}))
        (tmp_path / name / "config.yaml").write_text("seed: 1")
    (tmp_path / "without_checkpoint" / "checkpoints" / "step_00000001").rmdir()
    (tmp_path / "a" / "checkpoints" / "last").symlink_to("step_00000001")
    assert is_sweep(tmp_path)
    assert not is_sweep(tmp_path / "c")
    assert [run.name for run in sweep_runs(tmp_path)] == ["a", "c"]


def test_the_table_of_a_sweep_has_what_was_evaluated():
    """A model without words, one more task, and a baseline."""
    losses = SimpleNamespace(to_dict=lambda: {"token_perplexity": 12.0, "word_perplexity": None, "bits_per_byte": 1.5})
    rows = [TableRow("blimp acc", 0.75), TableRow("blimp acc binding", 0.5)]
    parts = {"perplexity": PartResult("", losses, []), "tasks": PartResult("", losses, rows)}
    results = [
        EvaluationResult("", Path(), parts, SimpleNamespace(bits_per_byte=-0.25)),
        EvaluationResult("", Path(), {"tasks": PartResult("", losses, [TableRow("lambada_openai acc", 0.25)])}),
    ]
    table = sweep_table([Path("a"), Path("b")], results)
    assert [re.split(" {2,}", line) for line in table.split("\n")] == [
        ["run", "bits_per_byte", "token_perplexity", "bits_per_byte - baseline", "blimp acc", "lambada_openai acc"],
        ["a", "1.5000", "12.0000", "-0.2500", "0.7500"],
        ["b", "0.2500"],
    ]
    assert not sweep_table([Path("a")], [EvaluationResult("", Path(), {"context": PartResult("", losses, [])})])
