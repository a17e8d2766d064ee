"""Which settings a resumed run may change, compared as values."""

import dataclasses
import json
import logging
import math
import shutil
import signal
import subprocess
import sys

import pytest

from gpt2lab.checkpoint import newest_complete
from gpt2lab.config import NormConfig, SamplesConfig, StoppedError, TrainJob, UserError, to_dict
from gpt2lab.config.differences import Difference
from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.runs import write_json
from gpt2lab.runs.own_code import own_code
from gpt2lab.runtime import open_runtime
from gpt2lab.training.resume import (
    DATA_ORDER_KEYS,
    PROCESS_KEYS,
    Start,
    config_differences,
    effective_changes,
    find_start,
    resume_training,
)
from gpt2lab.training.signals import StopRequested
from gpt2lab.training.validator import Validator
from gpt2lab.weights import load_pretrained, load_weights


def test_differences_are_values_with_dotted_keys():
    saved = {"a": {"b": 1, "c": [1, 2]}, "d": None, "resume": None}
    current = {"a": {"b": 1, "c": [1, 3]}, "d": 0, "resume": "auto", "e": "new"}
    differences = config_differences(saved, current)
    assert [(d.key, d.saved, d.current) for d in differences] == [
        ("a.c", [1, 2], [1, 3]),
        ("d", None, 0),
        ("e", None, "new"),
    ]
    assert str(differences[0]) == "a.c=[1, 3] (was [1, 2])"
    assert str(Difference("data.delimiter", None, "\n\n")) == r"data.delimiter='\n\n' (was None)"


def test_keys_with_a_meaning_exist():
    config = to_dict(TrainJob())
    for key in DATA_ORDER_KEYS | PROCESS_KEYS:
        values = config
        for name in key.split("."):
            assert name in values, key
            values = values[name]


def test_equal_values_are_no_change(make_trainer):
    """``null`` stands for a value that can be typed; another one is refused."""
    job = make_trainer("run").job
    typed = {"sequence_length": job.model.block_size, "data_seed": job.seed, "init_seed": job.seed}
    same = dataclasses.replace(job, training=dataclasses.replace(job.training, **typed))
    runtime = open_runtime(job.runtime)
    assert effective_changes(job, same, runtime) == effective_changes(same, job, runtime) == []
    reseeded = dataclasses.replace(same, seed=job.seed + 1)
    assert [change.key for change in effective_changes(job, reseeded, runtime)] == ["seed"]
    reseeded = dataclasses.replace(job, seed=job.seed + 1)
    changes = {change.key for change in effective_changes(same, reseeded, runtime)}
    assert changes == {"seed", "training.data_seed", "training.init_seed"}


@pytest.mark.parametrize(("change", "refused"), [({"data_seed": 5}, True), ({"eval_tokens": 320}, False)])
def test_a_changed_setting_is_refused_or_reported(make_trainer, caplog, change, refused):
    first = make_trainer("first", max_steps=2, checkpoint_every=1)
    first.run()
    second = make_trainer("second", max_steps=4, **change)
    with caplog.at_level(logging.WARNING):
        if refused:
            with pytest.raises(UserError, match=r"training.data_seed=5 \(was None\): the data order would change"):
                resume_training(second, second.job, newest_complete(first.checkpoints.folder), second.manifest)
        else:
            resume_training(second, second.job, newest_complete(first.checkpoints.folder), second.manifest)
            assert "resumed with another setting: training.eval_tokens=320 (was 160)" in caplog.text
            assert second.state.step == 2
            assert second.state.run_id != first.state.run_id  # another run directory, so another run


def test_another_architecture_names_the_command_that_continues_the_run(make_trainer):
    first = make_trainer("first, 1", max_steps=1)
    first.run()
    other = make_trainer("other", max_steps=2)
    other.job.model = dataclasses.replace(other.job.model, n_layer=other.job.model.n_layer + 1)
    with pytest.raises(UserError, match="is of another architecture: model.n_layer=") as error:
        resume_training(other, other.job, newest_complete(first.checkpoints.folder), other.manifest)
    assert str(error.value).endswith(f"type gpt2lab train 'from={first.plan.run_dir}' resume=auto")


def test_links_that_a_kill_prevented_are_made_on_resuming(make_trainer):
    """``best`` would go on pointing to an earlier one, and the best checkpoint be deleted in time."""
    trainer = make_trainer("run", max_steps=4, checkpoint_every=2, eval_every=2)
    trainer.run()
    folder = trainer.checkpoints.folder
    assert trainer.state.best_step == 4
    for link in ("last", "best"):
        (folder / link).unlink()
        (folder / link).symlink_to("step_00000002")
    resume_training(trainer, trainer.job, newest_complete(folder), trainer.manifest)
    assert {(folder / link).resolve().name for link in ("last", "best")} == {"step_00000004"}
    assert trainer.saved_step == 4  # a stop before the next step writes nothing


def test_a_run_that_was_copied_without_links_is_continued(make_trainer, tmp_path, monkeypatch):
    """``scp -r`` makes folders of them, ``rsync -r`` leaves them out."""
    trainer = make_trainer("run", max_steps=4, checkpoint_every=1, eval_every=2)
    losses = iter([2.0, 3.0])
    monkeypatch.setattr(Validator, "__call__", lambda *_, **__: Perplexity(next(losses), tokens=1, bytes=1))
    trainer.run()
    folders = shutil.copytree(tmp_path / "run", tmp_path / "folders") / "checkpoints"
    shutil.copytree(tmp_path / "run", tmp_path / "missing", symlinks=True)
    for link in ("last", "best"):
        (tmp_path / "missing" / "checkpoints" / link).unlink()
        assert not (folders / link).is_symlink()
    for name in ("folders", "missing"):
        copy = tmp_path / name
        start = find_start(dataclasses.replace(trainer.job, resume=str(copy)), None)
        assert start == Start(copy, copy / "checkpoints" / "step_00000004")
        trainer.plan = dataclasses.replace(trainer.plan, run_dir=copy)
        trainer.checkpoints.folder = copy / "checkpoints"
        resume_training(trainer, trainer.job, start.checkpoint, trainer.manifest)
        for link, step in (("last", "step_00000004"), ("best", "step_00000002")):
            assert str((copy / "checkpoints" / link).readlink()) == step
        assert find_start(dataclasses.replace(trainer.job, resume="auto"), copy) == start


def test_the_best_loss_is_not_compared_with_losses_of_another_text_or_run(make_trainer, caplog):
    first = make_trainer("first", max_steps=2, checkpoint_every=1)
    first.run()
    best, data = first.state.best_val_loss, first.manifest.fingerprint

    def resumed(name, fingerprint, eval_tokens, *, in_place=True):
        trainer = make_trainer(name, max_steps=4, eval_tokens=eval_tokens)
        if in_place:
            trainer.checkpoints.folder = first.checkpoints.folder
        job = dataclasses.replace(trainer.job, ignore_data_fingerprint=True)
        manifest = dataclasses.replace(trainer.manifest, fingerprint=fingerprint)
        resume_training(trainer, job, newest_complete(first.checkpoints.folder), manifest)
        return trainer.state.best_val_loss, trainer.state.best_step

    assert resumed("alike", data, 160) == resumed("as_many_windows", data, 170) == (best, 2)
    assert "not compared" not in caplog.text
    assert resumed("other_data", "another", 160) == resumed("other_windows", data, 320) == (math.inf, 0)
    assert f"best_val_loss {best:.4f} of step 2 is not compared with the losses to come" in caplog.text
    # a branch would keep no best checkpoint until it is better than one that it does not hold
    assert resumed("branch", data, 160, in_place=False) == (math.inf, 0)
    assert "branch does not hold the best checkpoint so far: best_val_loss" in caplog.text


def test_a_run_resumed_at_its_last_step_keeps_its_loss(make_trainer, tmp_path):
    first = make_trainer("run", max_steps=2, checkpoint_every=1)
    first.run()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    (tmp_path / "run").rename(tmp_path / "kept")
    again = make_trainer("run", max_steps=2, checkpoint_every=1)
    shutil.copytree(tmp_path / "kept", tmp_path / "run", symlinks=True, dirs_exist_ok=True)
    resume_training(again, again.job, newest_complete(tmp_path / "run" / "checkpoints"), again.manifest)
    again.run()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["loss"] == summary["loss"] > 0


def test_a_run_that_ends_where_it_was_stopped_has_its_last_validation_recorded(make_trainer, tmp_path):
    settings = {"eval_every": 2, "checkpoint_every": 1, "log_every": 2, "samples": SamplesConfig(every=1)}
    first = make_trainer("run", max_steps=4, **settings)
    first.signals.check = lambda: signal_at(3, first)
    with pytest.raises(StoppedError):
        first.run()
    (tmp_path / "run").rename(tmp_path / "kept")
    again = make_trainer("run", max_steps=3, **settings)
    shutil.copytree(tmp_path / "kept", tmp_path / "run", symlinks=True, dirs_exist_ok=True)
    for _ in range(2):  # the second time it is recorded
        resume_training(again, again.job, newest_complete(again.checkpoints.folder), again.manifest)
        again.run()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    validations = [(line["step"], line["val_loss"]) for line in lines if "val_loss" in line]
    assert [step for step, _ in validations] == [2, 3]
    assert validations[-1] == (summary["best_step"], summary["best_val_loss"]) == (3, summary["val_loss"])
    assert (again.checkpoints.folder / "best").resolve().name == "step_00000003"
    assert '"step": 3' in (tmp_path / "run" / "samples.jsonl").read_text()
    assert summary["loss"] is None  # of step 3, which has no line: not that of an earlier one


def signal_at(step, trainer):
    if trainer.state.step == step:
        raise StopRequested(signal.SIGTERM)


def test_a_value_that_an_automatic_one_came_to_is_no_change(make_trainer, caplog):
    """As ``from=RUN resume=auto`` has it, which reads the resolved values of config.yaml."""
    automatic = {"device": "auto", "precision": "auto"}
    first = make_trainer("first", runtime=automatic, max_steps=2, checkpoint_every=1)
    first.run()
    came_to = {"device": first.runtime.device.type, "precision": first.runtime.precision}
    second = make_trainer("second", runtime=came_to, max_steps=2, checkpoint_every=1)
    with caplog.at_level(logging.WARNING):
        resume_training(second, second.job, newest_complete(first.checkpoints.folder), second.manifest)
    assert "resumed with another setting" not in caplog.text


def test_a_checkpoint_that_was_copied_elsewhere_says_nothing_of_a_run_dir(make_trainer, tmp_path):
    trainer = make_trainer("run", max_steps=2)
    trainer.run()
    backup = tmp_path / "home" / "backup"
    shutil.copytree(newest_complete(trainer.checkpoints.folder), backup / "step_00000002")
    (backup.parent / "thesis.tex").touch()
    job = dataclasses.replace(trainer.job, resume=str(backup / "step_00000002"))
    with pytest.raises(UserError, match=rf"^resume=.*step_00000002: .*expected run_dir=.*try run_dir={backup}/run$"):
        find_start(job, None)
    with pytest.raises(UserError, match="holds backup, thesis.tex, which no run has written"):
        find_start(job, backup.parent)
    assert find_start(job, backup / "run").run_dir == backup / "run"
    own = newest_complete(trainer.checkpoints.folder)
    assert find_start(dataclasses.replace(job, resume=str(own)), None).run_dir == trainer.plan.run_dir


HOLD = """
import sys
from pathlib import Path
from gpt2lab.runs import lock_directory
lock_directory(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("resume", [None, "auto", "step_00000001"])
def test_find_start_changes_nothing_in_a_run_that_another_process_writes(tmp_path, resume):
    """It may be between the two renames by which a checkpoint takes the place of another of its step."""
    half_replaced = tmp_path / "checkpoints" / "step_00000002.replaced"
    half_replaced.mkdir(parents=True)
    (tmp_path / "environment.json").touch()
    if resume == "step_00000001":
        (tmp_path / "checkpoints" / resume).mkdir()
        (tmp_path / "checkpoints" / resume / "checkpoint.json").touch()
        resume = str(tmp_path / "checkpoints" / resume)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is at work there"):
            find_start(TrainJob(resume=resume), tmp_path)
        other.kill()
    assert half_replaced.is_dir()


@pytest.mark.parametrize(
    ("length", "shown"), [({"max_steps": 3}, "max_steps=3"), ({"max_tokens": 192}, "max_tokens=192")]
)
def test_a_run_shorter_than_its_checkpoint_is_refused(make_trainer, length, shown):
    first = make_trainer("first", max_steps=4)
    first.run()
    newest = newest_complete(first.checkpoints.folder)
    short = make_trainer("short", **({"max_steps": None} | length))
    line = rf"^training.{shown}: a run of 3 steps, but .*step_00000004 is at step 4; expected at least 4 steps"
    with pytest.raises(UserError, match=line):
        resume_training(short, short.job, newest, short.manifest)
    same = make_trainer("same", max_steps=4)
    resume_training(same, same.job, newest, same.manifest)
    assert same.run().validation.tokens > 0  # a completed run is validated again


NORM = "from torch import nn\nclass Norm(nn.Identity):\n    def __init__(self, dim, config): super().__init__()\n"


def test_other_code_of_an_own_class_is_named_wherever_the_run_is_opened(make_trainer, tmp_path, monkeypatch, caplog):
    (tmp_path / "norm_of_mine.py").write_text(NORM)
    monkeypatch.syspath_prepend(tmp_path)
    own = {"model": {"norm": NormConfig("norm_of_mine:Norm")}, "max_steps": 1, "checkpoint_every": 1}
    first = make_trainer("first", **own)
    first.run()
    second = make_trainer("second", **own)
    write_json(tmp_path / "first" / "environment.json", {"own_code": own_code(to_dict(first.job.model))})
    (tmp_path / "norm_of_mine.py").write_text(f"{NORM}    # changed\n")
    for opened in (
        lambda: resume_training(second, second.job, newest_complete(first.checkpoints.folder), second.manifest),
        lambda: load_pretrained(tmp_path / "first"),
        lambda: load_weights(second.model, str(tmp_path / "first")),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            opened()
        assert "first: trained with other code of norm_of_mine" in caplog.text
