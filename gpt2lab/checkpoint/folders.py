"""The folders of a run's checkpoints: their names, the links to two of them, and the newest that is complete."""

import errno
import logging
import shutil
from pathlib import Path

from gpt2lab.checkpoint.manifest import IncompleteCheckpointError, verify_checkpoint
from gpt2lab.config import UserError
from gpt2lab.files import restore_predecessor, write_synced
from gpt2lab.runs.layout import BEST, LAST

log = logging.getLogger(__name__)

NO_SYMBOLIC_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""errors of a file system that has none"""
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
    """Make ``link`` point to ``target``, in the same folder, at once.

    A disk without symbolic links (exFAT, some network mounts) gets a file with the target's name in place of the link.
    """
    temporary = link.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target.name)
    except OSError as error:
        if error.errno not in NO_SYMBOLIC_LINKS:
            raise OSError(error.errno, error.strerror, str(link)) from error  # its own name would be the target's
        write_synced(temporary, target.name.encode())
    temporary.replace(link)


def follow_link(path: Path) -> Path:
    """Return the checkpoint that a file in place of the link ``last`` or ``best`` names; another path as it is."""
    if path.name not in (LAST, BEST) or not path.is_file():
        return path
    name = path.read_text(encoding="utf-8", errors="replace").strip()
    return path if step_of(name) is None else path.with_name(name)
