"""Links of a run that was copied without links."""

import shutil

import pytest

from gpt2lab.checkpoint import CheckpointManager, relink_copies, verify_checkpoint
from gpt2lab.config import UserError


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
