"""A run killed at any moment and started again ends with the weights of one that was not."""

import time

import pytest

from gpt2lab.training.metrics import read_lines
from tests.integration.conftest import TINY
from tests.integration.kill_campaign import campaign


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kills"), [(1, 4), (2, 2)])
def test_killed_and_resumed_is_bit_equal(workplace, processes, kills):
    met = campaign(workplace, processes, steps=160, kills=kills, seed=time.time_ns())
    assert met.total() == kills


def test_resume_says_what_it_skipped_and_what_changed(run, workplace):
    run("train.py", *TINY, "run_dir=run", "training.max_steps=6", "training.checkpoint_every=2")
    newest = workplace / "run" / "checkpoints" / "step_00000006" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    shown = run("train.py", *TINY, "run_dir=run", "training.max_steps=8", "resume=auto").stdout
    assert "skipped" in shown
    assert "step_00000006/model.safetensors has" in shown
    assert "resumed with another setting: training.max_steps=8 (was 6)" in shown
    assert "step_00000004 at step 4" in shown
    steps = [m["step"] for m in read_lines(workplace / "run" / "metrics.jsonl") if "loss" in m]
    assert steps == sorted(set(steps))


def test_an_older_checkpoint_is_continued_in_a_folder_of_its_own(run, workplace):
    settings = [*TINY, "training.max_steps=6", "training.checkpoint_every=2"]
    run("train.py", *settings, "run_dir=run")
    older = "resume=run/checkpoints/step_00000004"
    with pytest.raises(AssertionError, match="holds step_00000006 besides"):
        run("train.py", *settings, older)
    run("train.py", *settings, older, "run_dir=branch")
    weights = [(workplace / d / "checkpoints" / "last" / "model.safetensors").read_bytes() for d in ("run", "branch")]
    assert weights[0] == weights[1]
    assert [m["step"] for m in read_lines(workplace / "branch" / "metrics.jsonl")] == [6, 6]
