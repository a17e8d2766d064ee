"""The README's path: train, evaluate, sample; sweeps; other folders."""

import json
import math
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import load_file

from gpt2lab.runs import read_lines
from tests.integration.conftest import ONE_THREAD, ROOT, TINY


def test_train_evaluate_sample(run, workplace):
    settings = ["training.max_steps=60", "training.eval_every=20", "optimizer=muon", "optimizer.lr=1e-2", "model=nano"]
    run("train.py", *TINY, *settings, "run_dir=runs/run")
    run_dir = workplace / "runs" / "run"
    summary = json.loads((run_dir / "summary.json").read_text())
    metrics = read_lines(run_dir / "metrics.jsonl")
    expected = {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "samples.jsonl",
        "summary.json",
        "loss.png",
        "log.txt",
        "checkpoints",
    }
    assert {path.name for path in run_dir.iterdir()} == expected
    assert summary["status"] == "completed"
    assert summary["tokens"] == 60 * 1024
    assert all({"step", "tokens"} <= set(line) for line in metrics)
    assert [line["step"] for line in metrics if "val_loss" in line] == [20, 40, 60]
    assert summary["val_loss"] < summary["unigram_loss"] < math.log(257)
    assert summary["val_perplexity"] == pytest.approx(math.exp(summary["val_loss"]))
    weights = load_file(run_dir / "checkpoints" / "last" / "model.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == summary["parameters"]
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["training"]["max_steps"] == 60

    shown = run("eval.py").stdout  # without checkpoint= it takes the newest run, and says which
    metrics = json.loads((run_dir / "eval.json").read_text())["evaluations"][-1]
    assert str(run_dir / "checkpoints" / "step_00000060") in shown
    assert metrics["bits_per_byte"] == pytest.approx(summary["val_bits_per_byte"], rel=0.1)
    assert metrics["protocol"]["context"] == 64

    (workplace / "text.txt").write_text("import argparse\n\nparser = argparse.ArgumentParser()\n")
    run("eval.py", "checkpoint=runs/run", "eval.text_file=text.txt", "eval.stride=8", "out=text.json")
    text_metrics = json.loads((workplace / "text.json").read_text())["evaluations"][-1]
    assert text_metrics["tokens"] == text_metrics["bytes"] == (workplace / "text.txt").stat().st_size
    assert text_metrics["words"] == 5

    arguments = ["checkpoint=runs/run", "prompt=def ", "sampling.max_new_tokens=80", "sampling.num_samples=2"]
    first, again, other = (run("sample.py", *arguments, f"sampling.seed={seed}").stdout for seed in (1, 1, 2))
    assert first == again != other
    assert f"\n{first}".count("\ndef ") >= 2
    assert "--- 3 tokens, limit reached" in run("sample.py", "sampling.max_new_tokens=3").stderr


def test_a_long_prompt_is_continued_by_its_last_tokens(run):
    run("train.py", *TINY, "run_dir=run", "training.max_steps=2")
    arguments = ["checkpoint=run", "sampling.max_new_tokens=20", "sampling.temperature=0"]
    tail = "the very same last sixty-four characters decide what comes next,"
    assert len(tail) == 64
    result = run("sample.py", *arguments, f"prompt={'x' * 50}{tail}")
    assert "warning: the prompt has 114 tokens, the context 64" in result.stderr
    short = run("sample.py", *arguments, f"prompt={tail}")
    assert result.stdout.split(tail)[-1] == short.stdout.split(tail)[-1]


def test_a_rerun_gives_the_same_figures(run, workplace):
    for name in ("one", "two"):
        run("train.py", *TINY, f"run_dir={name}", "training.max_steps=12", "model.dropout=0.1", "training.log_every=1")
    one, two = (read_lines(workplace / name / "metrics.jsonl") for name in ("one", "two"))
    assert [line.get("loss") for line in one] == [line.get("loss") for line in two]
    assert len(one) == 13
    weights = [
        (workplace / name / "checkpoints" / "last" / "model.safetensors").read_bytes() for name in ("one", "two")
    ]
    assert weights[0] == weights[1]


def test_init_from_takes_weights_only(run, workplace):
    run("train.py", *TINY, "run_dir=first", "training.max_steps=30", "optimizer.lr=1e-2")
    run("train.py", *TINY, "run_dir=second", "training.max_steps=1", "init_from=first", "optimizer.lr=1e-9")
    first, second = (json.loads((workplace / name / "summary.json").read_text()) for name in ("first", "second"))
    assert second["steps"] == 1
    assert second["val_loss"] == pytest.approx(first["val_loss"], abs=1e-4)


def test_init_from_with_resume_starts_once(run, workplace):
    """As a job of a sweep is started, and started again after a stop."""
    run("train.py", *TINY, "run_dir=first", "training.max_steps=30", "optimizer.lr=1e-2")
    settings = [*TINY, "run_dir=second", "init_from=first", "optimizer.lr=1e-9", "resume=auto"]
    run("train.py", *settings, "training.max_steps=1")
    shown = run("train.py", *settings, "training.max_steps=2").stdout
    assert "weights from" not in shown
    assert "at step 1" in shown
    losses = [json.loads((workplace / name / "summary.json").read_text())["val_loss"] for name in ("first", "second")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_configuration_is_shown_without_data(workplace):
    command = [sys.executable, ROOT / "train.py", "model=gpt2_xl", "--cfg", "job"]
    shown = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(shown)["model"]["n_layer"] == 48
    assert not (workplace / "runs").exists()
    assert not (workplace / "data").exists()


def test_runs_started_together_have_their_own_folders(run, workplace):
    run("prepare.py", *TINY[:4])
    command = [sys.executable, str(ROOT / "train.py"), *TINY, "training.max_steps=1"]
    processes = [subprocess.Popen(command, cwd=workplace, env=ONE_THREAD) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(list(workplace.glob("runs/*/*/summary.json"))) == 3


@pytest.mark.slow
def test_gpt2_medium_trains_on_a_cpu(run, workplace):
    """Within 10 GiB, and with the published number of parameters. A step of 1,024 tokens takes 40 s."""
    short = ["training.sequence_length=128", "training.batch_tokens=128", "training.eval_tokens=128"]
    run("train.py", *TINY[:3], "model=gpt2_medium", "training.max_steps=2", *short, "run_dir=run")
    summary = json.loads((workplace / "run" / "summary.json").read_text())
    assert summary["parameters"] == 354_823_168
    assert summary["peak_memory_bytes"] < 10 * 2**30
