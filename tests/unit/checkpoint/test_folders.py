"""Links of a run, of one that was copied without links, and of one on a disk that has none."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from gpt2lab.checkpoint import (
    CheckpointManager,
    follow_link,
    last_checkpoint,
    newest_run,
    relink_copies,
    verify_checkpoint,
)
from gpt2lab.config import UserError
from gpt2lab.weights import find_checkpoint


@pytest.fixture
def copied(tmp_path):
    """Checkpoints whose links a copy has made folders of; step 1 is the best one."""
    saved = CheckpointManager(tmp_path / "run", {}, {"config": {}}, 2, {"tokenizer.json": "{}"})
    saved.save(1, best=True)
    saved.save(2, best=False)
    return shutil.copytree(tmp_path / "run", tmp_path / "copied")  # as scp -r and cp -rL do


def test_relink_copies_makes_links_of_folders(copied):
    shutil.rmtree(copied / "step_00000001")  # a user's, to save room
    assert not (copied / "best").is_symlink()
    for _ in range(2):
        relink_copies(copied)
        assert {path.name: path.is_symlink() for path in copied.iterdir()} == {
            "best": True, "last": True, "step_00000001": False, "step_00000002": False
        }  # fmt: skip
    for link, step in (("best", 1), ("last", 2)):
        assert verify_checkpoint(copied / link)["step"] == step
    relink_copies(copied / "missing")


@pytest.mark.parametrize("damaged", ["last", "step_00000002"])
def test_relink_copies_deletes_nothing_where_a_checkpoint_is_damaged(copied, damaged):
    (copied / damaged / "tokenizer.json").write_text("{")
    before = sorted(copied.rglob("*"))
    with pytest.raises(UserError, match=rf"last: a folder.*{damaged}/tokenizer.json has 1 bytes.*move .*/last away$"):
        relink_copies(copied)
    assert sorted(copied.rglob("*")) == before


def test_relink_copies_deletes_no_other_checkpoint(copied, tmp_path):
    other = CheckpointManager(tmp_path / "other", {}, {"config": {"x": 1}}, 2).save(2, best=False)
    shutil.rmtree(copied / "step_00000002")
    shutil.copytree(other, copied / "step_00000002")
    with pytest.raises(UserError, match="last: a folder.*it is another checkpoint than step_00000002"):
        relink_copies(copied)
    verify_checkpoint(copied / "last")


@pytest.fixture
def links_fail(monkeypatch):
    """Let every symbolic link fail with an error number."""

    def fail(number):
        def symlink_to(path, target):
            raise OSError(number, os.strerror(number), str(target), None, str(path))

        monkeypatch.setattr(Path, "symlink_to", symlink_to)

    return fail


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])  # exFAT, CIFS
def test_on_a_disk_without_symbolic_links_files_name_the_checkpoints(tmp_path, links_fail, number):
    links_fail(number)
    folder = tmp_path / "run" / "checkpoints"
    saved = CheckpointManager(folder, {}, {"config": {}}, 1)
    for step in (1, 2, 3):
        saved.save(step, best=step == 1)
    assert {path.name for path in folder.iterdir()} == {"step_00000001", "step_00000003", "last", "best"}
    assert last_checkpoint(tmp_path / "run") == follow_link(folder / "last") == folder / "step_00000003"
    assert find_checkpoint(str(folder / "best"), "checkpoint") == folder / "step_00000001"
    assert newest_run(tmp_path) == tmp_path / "run"
    relink_copies(folder)
    (folder / "last").write_text("notes of mine")
    assert follow_link(folder / "last") == folder / "last"
    assert last_checkpoint(tmp_path / "run") == folder / "step_00000003"


def test_a_link_that_may_not_be_made_is_named(tmp_path, links_fail):
    links_fail(errno.EACCES)
    with pytest.raises(PermissionError) as error:
        CheckpointManager(tmp_path, {}, {"config": {}}, 1).save(1, best=False)
    assert error.value.filename == str(tmp_path / "last")
