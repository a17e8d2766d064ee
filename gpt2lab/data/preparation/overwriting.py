"""The folders of a prepared dataset while it is written or replaced, and the lock that keeps other processes out."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path

from gpt2lab.files import restore_predecessor
from gpt2lab.locks import locked_when_free

log = logging.getLogger(__name__)


def hidden_folders(folder: Path) -> tuple[Path, Path]:
    """The folder that a dataset is written into, and the one that holds its predecessor during an overwrite."""
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def preparing_lock(folder: Path) -> AbstractContextManager[None]:
    """The lock under which the datasets beside ``folder`` are written; another process waits for it."""
    parent = folder.parent
    return locked_when_free(parent, f"{parent}: another process prepares a dataset there; waiting until it ends")


def undo_interrupted_overwrite(folder: Path) -> None:
    """Bring back the dataset that an overwrite had moved away when it was killed; the caller holds the lock."""
    if restore_predecessor(folder, hidden_folders(folder)[1]):
        log.info("%s: restored after an interrupted overwrite", folder)


def restore_if_interrupted(folder: Path) -> None:
    """``undo_interrupted_overwrite`` under the lock, which is taken only if there is something to undo."""
    if hidden_folders(folder)[1].is_dir():
        with preparing_lock(folder):
            undo_interrupted_overwrite(folder)
