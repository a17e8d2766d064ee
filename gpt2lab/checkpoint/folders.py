"""The folders of a run's checkpoints: their names, the links to two of them, and the newest that is complete."""

import logging
import shutil
from pathlib import Path

from gpt2lab.checkpoint.manifest import IncompleteCheckpointError, verify_checkpoint
from gpt2lab.config import UserError
from gpt2lab.files import restore_predecessor
from gpt2lab.runs.layout import BEST, LAST

log = logging.getLogger(__name__)

REPLACED = ".replaced"
"""ending of a checkpoint's name while another one of its step takes its place"""


def folder_name(step: int) -> str:
    """Return the name of the checkpoint folder of a step."""
    return f"step_{step:08d}"


def step_of(name: str) -> int | None:
    """Return the step in the name of a checkpoint folder; None if the name is not one of ours."""
    digits = name.removeprefix("step_")
    return int(digits) if digits.isdecimal() and name == folder_name(int(digits)) else None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint folders under ``folder``, newest first, complete or not.

    A copy under another name, such as step_00000004_keep, is the user's.
    """
    steps = {path: step_of(path.name) for path in folder.glob("step_*") if path.is_dir()}
    ours = {path: step for path, step in steps.items() if step is not None}
    return sorted(ours, key=ours.__getitem__, reverse=True)


def newest_complete(folder: Path) -> Path | None:
    """Return the newest checkpoint under ``folder`` that verifies; log why newer ones do not."""
    for checkpoint in list_checkpoints(folder):
        try:
            verify_checkpoint(checkpoint)
        except IncompleteCheckpointError as error:
            log.warning("skipped %s", error)
        else:
            return checkpoint
    return None


def restore_replaced(folder: Path) -> None:
    """Delete checkpoints that others have replaced; give their names back to those whose successor a kill prevented."""
    for replaced in folder.glob(f"step_*{REPLACED}"):
        if step_of(replaced.stem) is None:
            continue
        if not restore_predecessor(replaced.with_suffix(""), replaced):
            shutil.rmtree(replaced)


def relink_copies(folder: Path) -> None:
    """Make links of the folders that a copy has in their place: ``scp -r`` and ``cp -rL`` copy what a link leads to.

    Raises:
        UserError: such a folder is damaged, or differs from the checkpoint of its step.
    """
    for link in (folder / name for name in (LAST, BEST)):
        if link.is_symlink() or not link.is_dir():
            continue
        try:
            manifest = verify_checkpoint(link)
            checkpoint = folder / folder_name(manifest["step"])
            if not checkpoint.exists():
                link.rename(checkpoint)
            elif verify_checkpoint(checkpoint) != manifest:
                raise IncompleteCheckpointError(f"it is another checkpoint than {checkpoint.name}")
        except IncompleteCheckpointError as error:
            raise UserError(
                f"{link}: a folder, as a copy of a run has it that was made without links ({error}); expected a link "
                f"to a checkpoint beside it; move {link} away"
            ) from error
        if link.exists():
            shutil.rmtree(link)
        point_link(link, checkpoint)


def point_link(link: Path, target: Path) -> None:
    """Make ``link`` point to ``target``, in the same folder, at once."""
    temporary = link.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    temporary.replace(link)
