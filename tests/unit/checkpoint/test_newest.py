"""Which run is taken when none is named, and which checkpoint of a run."""

import json
import os

import pytest

from gpt2lab.checkpoint import CheckpointManager, last_checkpoint, newest_run, newest_started_run


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
    assert newest_run(tmp_path) is newest_run(tmp_path / "nowhere") is newest_started_run(tmp_path) is None


def test_newest_started_run_may_have_no_checkpoint_yet(add_run, tmp_path):
    """Were an older run taken, it would be continued with the settings of another."""

    def start(name, file, seconds):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / file).touch()
        os.utime(tmp_path / name / file, (seconds, seconds))
        return tmp_path / name

    older = add_run("older", "completed", 1)
    killed = start("day/killed", "environment.json", 2)
    (tmp_path / "sweeps" / "norms").mkdir(parents=True)
    (tmp_path / "sweeps" / "norms" / "sweep.json").write_text("{}")
    start("sweeps/norms/seed=1", "environment.json", 3)
    assert newest_started_run(tmp_path) == killed
    assert newest_run(tmp_path) == older
    start("older", "environment.json", 0)
    start("older", "environment.2.json", 4)
    assert newest_started_run(tmp_path) == older


def test_a_run_that_was_copied_without_links_has_its_checkpoints(add_run, tmp_path, caplog):
    add_run("other", "completed", 1)
    copy = add_run("copy", "completed", 0)
    (copy / "checkpoints" / "last").unlink()  # as rsync -r leaves it
    assert newest_run(tmp_path) == newest_started_run(tmp_path) == copy
    assert last_checkpoint(copy).name == "step_00000001"  # what is wrong with it is said where it is opened
    CheckpointManager(copy / "checkpoints", {}, {}, 3).save(2, best=False)
    damaged = CheckpointManager(copy / "checkpoints", {}, {}, 3).save(3, best=False)
    (copy / "checkpoints" / "last").unlink()
    (damaged / "checkpoint.json").unlink()
    assert last_checkpoint(copy).name == "step_00000002"
    assert "step_00000003 is not a complete checkpoint" in caplog.text
