"""A checkpoint is complete and verified, or it is not used; earlier ones survive whatever happens to it."""

import errno
import json
import logging
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from gpt2lab.checkpoint import (
    BackgroundCheckpoints,
    CheckpointManager,
    IncompleteCheckpointError,
    list_checkpoints,
    newest_complete,
    restore_replaced,
    verify_checkpoint,
)
from gpt2lab.checkpoint.parts import read_part, write_part
from gpt2lab.config import OptimizerConfig, UserError
from gpt2lab.training.optimizer import Optimizers, adamw


class Part:
    """Holds a state."""

    def __init__(self, **state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def manager(folder, keep=2):
    parts = {"model": Part(w=torch.arange(6.0).view(2, 3)), "progress": Part(step=3, names=["a"], t=torch.ones(2))}
    return CheckpointManager(folder, parts, {"config": {"x": 1}}, keep, {"tokenizer.json": "{}"})


def test_round_trip_in_files_that_hold_no_code(tmp_path):
    saved = manager(tmp_path)
    folder = saved.save(3, best=False)
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "progress.pt",
        "tokenizer.json",
        "checkpoint.json",
    }
    assert torch.load(folder / "progress.pt", weights_only=True)["names"] == ["a"]
    fresh = CheckpointManager(tmp_path, {"model": Part(), "progress": Part()}, {}, 2)
    fresh.load(folder)
    assert torch.equal(fresh.parts["model"].state["w"], torch.arange(6.0).view(2, 3))
    assert fresh.parts["progress"].state["step"] == 3
    assert (tmp_path / "last").resolve() == folder
    assert {path.stat().st_mode for path in folder.iterdir()} == {(folder / "checkpoint.json").stat().st_mode}
    assert json.loads((folder / "checkpoint.json").read_text())["config"] == {"x": 1}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux what lies at an address")
def test_tensors_are_pages_of_the_files_until_they_are_copied(tmp_path):
    """Each process of a run would hold all moments in memory of its own, and FSDP's of another process too."""

    def optimizers():
        return Optimizers(adamw(torch.nn.Linear(3, 2), OptimizerConfig(), 0.1))

    saved = optimizers()
    for parameter in (p for group in saved.groups for p in group["params"]):
        parameter.grad = torch.ones_like(parameter)
    saved.step()
    folder = CheckpointManager(tmp_path, {"optimizer": saved}, {}, 2).save(1, best=False)
    read = read_part(folder, verify_checkpoint(folder), "optimizer")
    loaded = optimizers()
    loaded.load_state_dict(read)
    ranges = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith("optimizer.pt")
    ]
    for states, in_file in ((read["adamw"]["state"].values(), True), (loaded.parts["adamw"].state.values(), False)):
        tensors = [tensor for state in states for tensor in state.values()]
        assert len(tensors) == 2 * len(("exp_avg", "exp_avg_sq", "step"))
        for tensor in tensors:
            assert any(begin <= tensor.data_ptr() < end for begin, end in ranges) == in_file


def test_a_part_that_was_not_saved_is_named(tmp_path):
    folder = manager(tmp_path).save(1, best=False)
    with pytest.raises(UserError, match="no scaler to load"):
        CheckpointManager(tmp_path, {"scaler": Part()}, {}, 2).load(folder)


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder):
    content = bytearray((folder / "progress.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "progress.pt").write_bytes(content)


def newer(folder):
    values = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps(values | {"format_version": 99}))


def replace_manifest(content):
    return lambda folder: (folder / "checkpoint.json").write_bytes(content)


def flip_manifest(folder):
    content = (folder / "checkpoint.json").read_text()
    (folder / "checkpoint.json").write_text(content.replace('"x": 1', '"x": 3'))


def of_types(**values):
    def change(folder):
        manifest = json.loads((folder / "checkpoint.json").read_text()) | values
        del manifest["sha256"]  # as an older checkpoint, which has none
        (folder / "checkpoint.json").write_text(json.dumps(manifest))

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_manifest, "checkpoint.json: damaged: its SHA-256"),
        (replace_manifest(b"[" * 100_000), "checkpoint.json: damaged"),
        (replace_manifest(b"\xff\xfe"), "checkpoint.json: damaged"),
        (replace_manifest(b"[1]"), "checkpoint.json: damaged"),
        (of_types(step="3"), "checkpoint.json: damaged: its step"),
        (of_types(files=[1]), "checkpoint.json: damaged"),
        (of_types(files={"model.safetensors": 3}), "checkpoint.json: damaged"),
        (of_types(files={"/etc/passwd": {"bytes": 1, "sha256": ""}}), "checkpoint.json: damaged"),
        (of_types(format_version=None), "checkpoint.json: damaged"),
        (truncate, "model.safetensors has .* bytes"),
        (flip, "progress.pt: its SHA-256"),
        (lambda folder: (folder / "progress.pt").unlink(), "progress.pt is missing"),
        (lambda folder: (folder / "checkpoint.json").unlink(), "has no checkpoint.json"),
        (lambda folder: (folder / "checkpoint.json").write_text("{"), "checkpoint.json: damaged"),
        (lambda folder: (folder / "checkpoint.json").write_text('{"format_version": 1}'), "damaged: 'step'"),
        (lambda folder: (folder / "checkpoint.json").write_text("[]"), "checkpoint.json: damaged"),
        (newer, "format 99, newer than 1"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_skipped(tmp_path, caplog, damage, reason):
    saved = manager(tmp_path)
    older, newest = saved.save(1, best=False), saved.save(2, best=False)
    assert newest_complete(tmp_path) == newest
    damage(newest)
    with pytest.raises(IncompleteCheckpointError, match=reason):
        verify_checkpoint(newest)
    with pytest.raises(IncompleteCheckpointError, match=reason):
        saved.load(newest)
    with caplog.at_level(logging.WARNING):
        assert newest_complete(tmp_path) == older
    assert "skipped" in caplog.text


def raise_no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def raise_as_safetensors_does(*_):
    raise SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("function", "full"),
    [
        ("parts.save_file", raise_as_safetensors_does),
        ("manager.write_synced", raise_no_space),
        ("manifest.write_synced", raise_no_space),
        ("manager.shutil.disk_usage", lambda path: SimpleNamespace(free=31)),
    ],
)
def test_a_full_disk_leaves_the_earlier_checkpoints(tmp_path, monkeypatch, function, full):
    saved = manager(tmp_path)
    older = saved.save(1, best=True)
    monkeypatch.setattr(f"gpt2lab.checkpoint.{function}", full)
    message = r"step 2 was not written \(.*No space left.*\); it needs \d+ bytes, .* has [\d,]+ free: .*resume=auto"
    with pytest.raises(UserError, match=message):
        saved.save(2, best=True)
    assert {path.name for path in tmp_path.iterdir()} == {"step_00000001", "last", "best"}
    assert newest_complete(tmp_path) == older == (tmp_path / "best").resolve()
    verify_checkpoint(older)


def test_a_save_that_was_killed_is_not_a_checkpoint(tmp_path):
    saved = manager(tmp_path)
    older = saved.save(1, best=False)
    (tmp_path / "step_00000002.tmp").mkdir()
    (tmp_path / "step_00000002.tmp" / "model.safetensors").write_bytes(b"half")
    assert newest_complete(tmp_path) == older
    assert verify_checkpoint(saved.save(2, best=False))["step"] == 2


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_kill_while_a_step_is_saved_again_leaves_one_of_the_two(tmp_path, monkeypatch, moment):
    """Killed before the first folder is moved away, before the second has its name, and before the first is deleted."""
    saved = manager(tmp_path, keep=1)
    saved.save(7, best=False)
    saved.parts["progress"].state = {"step": 7, "second": True}
    rename, rmtree = Path.rename, shutil.rmtree
    fatal = {"before": tmp_path / "step_00000007", "between": tmp_path / "step_00000007.tmp"}.get(moment)

    def killed_in_rename(path, target):
        if path == fatal:
            raise KeyboardInterrupt
        return rename(path, target)

    def killed_in_rmtree(path, **options):
        if moment == "after" and path.suffix == ".replaced" and path.exists():
            raise KeyboardInterrupt
        rmtree(path, **options)

    monkeypatch.setattr(Path, "rename", killed_in_rename)
    monkeypatch.setattr(shutil, "rmtree", killed_in_rmtree)
    with pytest.raises(KeyboardInterrupt):
        saved.save(7, best=False)
    monkeypatch.undo()
    restore_replaced(tmp_path)
    newest = newest_complete(tmp_path)
    assert newest is not None
    assert torch.load(newest / "progress.pt", weights_only=True).get("second", False) == (moment == "after")
    assert [path.name for path in tmp_path.glob("step_*")] == ["step_00000007"]
    assert saved.save(7, best=False) == newest
    assert torch.load(newest / "progress.pt", weights_only=True)["second"]


def test_the_newest_and_the_best_are_kept(tmp_path):
    saved = manager(tmp_path, keep=2)
    for step in range(1, 7):
        saved.save(step, best=step == 2)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == ["step_00000002", "step_00000005", "step_00000006"]
    assert (tmp_path / "best").resolve().name == "step_00000002"
    assert (tmp_path / "last").resolve().name == "step_00000006"


def test_what_has_another_name_or_is_a_link_is_the_users(tmp_path):
    """Copies are neither listed nor pruned, take no one's slot, and what a link leads to stays."""
    folder, elsewhere = tmp_path / "checkpoints", tmp_path / "elsewhere"
    saved = manager(folder, keep=1)
    shutil.copytree(saved.save(1, best=False), folder / "step_00000001_keep")
    (folder / "step_notes.txt").write_text("good ones")
    (folder / "step_1").mkdir()
    saved.save(2, best=False).rename(elsewhere)
    (folder / "step_00000002").symlink_to(elsewhere)
    assert [path.name for path in list_checkpoints(folder)] == ["step_00000002"]
    saved.save(3, best=False)
    saved.save(2, best=False)
    assert (folder / "step_00000001_keep" / "model.safetensors").exists()
    assert (folder / "step_notes.txt").exists()
    verify_checkpoint(elsewhere)
    assert not (folder / "step_00000002").is_symlink()


def test_writing_in_the_background_keeps_the_state_of_its_step(tmp_path, monkeypatch):
    """Training continues while the files wait; what is written is the state from before."""
    weight, momentum, go_on = torch.zeros(3), [torch.zeros(2)], threading.Event()
    parts = {"model": Part(w=weight), "optimizer": Part(state=momentum, step=1)}
    saved = BackgroundCheckpoints(tmp_path, parts, {}, keep=2)

    def write_when_allowed(*arguments):
        go_on.wait(timeout=30)
        return write_part(*arguments)

    monkeypatch.setattr("gpt2lab.checkpoint.manager.write_part", write_when_allowed)
    folder = saved.save(1, best=True)
    assert not folder.exists()
    weight += 1
    momentum[0] += 1
    go_on.set()
    saved.wait()
    fresh = CheckpointManager(tmp_path, {"model": Part(), "optimizer": Part()}, {}, 2)
    fresh.load(folder)
    assert (fresh.parts["model"].state["w"].tolist(), fresh.parts["optimizer"].state["state"][0].tolist()) == (
        [0.0] * 3,
        [0.0] * 2,
    )
    assert (tmp_path / "best").resolve() == folder


@pytest.mark.parametrize("after", ["save", "wait"])
def test_a_full_disk_in_the_background_is_raised_at_the_next_call(tmp_path, monkeypatch, after):
    saved = BackgroundCheckpoints(tmp_path, {"model": Part(w=torch.zeros(3))}, {}, keep=2)
    monkeypatch.setattr("gpt2lab.checkpoint.manifest.write_synced", raise_no_space)
    saved.save(1, best=False)
    with pytest.raises(UserError, match="step 1 was not written"):
        saved.save(2, best=False) if after == "save" else saved.wait()
    saved.wait()
