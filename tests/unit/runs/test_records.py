"""Which run is taken when none is named."""

import json
import os

import pytest

from gpt2lab.runs import newest_run, newest_started_run


@pytest.fixture
def add_run(tmp_path):
    """Make a run directory whose checkpoint was saved at a given time."""

    def add(name, status, seconds):
        step = tmp_path / name / "checkpoints" / "step_00000001"
        step.mkdir(parents=True)
        link = step.parent / "last"
        link.symlink_to("step_00000001")
        os.utime(link, (seconds, seconds), follow_symlinks=False)
        (tmp_path / name / "summary.json").write_text(json.dumps({"status": status}))
        return tmp_path / name

    return add


def test_newest_run_is_the_completed_run_saved_last(add_run, tmp_path, caplog):
    add_run("z", "completed", 1)
    newer = add_run("day/a", "completed", 2)
    assert newest_run(tmp_path) == newest_started_run(tmp_path) == newer
    assert not caplog.text


def test_newest_run_passes_over_an_interrupted_run_with_a_warning(add_run, tmp_path, caplog):
    completed, stopped = add_run("a", "completed", 1), add_run("b", "stopped", 2)
    assert newest_run(tmp_path) == completed
    assert f"{stopped} is newer, but not completed" in caplog.text
    assert newest_started_run(tmp_path) == stopped


def test_newest_run_takes_an_interrupted_run_with_a_warning_if_none_is_completed(add_run, tmp_path, caplog):
    stopped = add_run("b", "stopped", 2)
    (stopped / "summary.json").write_text("{")
    assert newest_run(tmp_path) == stopped
    assert "no run is completed" in caplog.text


def test_newest_run_is_never_a_run_of_a_sweep(add_run, tmp_path, caplog):
    member = add_run("sweeps/norms/norm=rmsnorm,seed=1", "completed", 9)
    (tmp_path / "sweeps" / "norms" / "sweep.json").write_text("{}")
    assert newest_run(tmp_path) is None
    assert f"checkpoint={member}" in caplog.text
    caplog.clear()
    alone = add_run("alone", "completed", 1)
    assert newest_run(tmp_path) == newest_started_run(tmp_path) == alone
    assert f"{member} is newer, but part of a sweep" in caplog.text


def test_newest_run_without_runs_is_none(tmp_path):
    assert newest_run(tmp_path) is newest_run(tmp_path / "nowhere") is None
