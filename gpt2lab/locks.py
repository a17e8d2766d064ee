"""Locks on folders: one process at a time works in a folder. A lock ends with its process, however that ends."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpt2lab.config import UserError

log = logging.getLogger(__name__)


def try_lock(folder: Path) -> int | None:
    """Lock a folder; returns the descriptor that holds the lock until it is closed, None if another one holds it.

    On a file system without locks (some mounts of NFS and Lustre) a warning says so, and nothing is held.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    if _is_held_by_another(descriptor, folder):
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def locked(folder: Path, refusal: str) -> Iterator[None]:
    """Hold the lock of ``folder``.

    Raises:
        UserError: another process holds it; ``refusal`` is the message.
    """
    descriptor = try_lock(folder)
    if descriptor is None:
        raise UserError(refusal)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked_when_free(folder: Path, waiting: str) -> Iterator[None]:
    """Wait for the lock of ``folder``, and hold it; ``waiting`` is logged if another process holds it.

    The folder is created if necessary, and removed at the end if it is empty.
    """
    descriptor = _wait_for_lock(folder, waiting)
    try:
        yield
    finally:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
        os.close(descriptor)


def _wait_for_lock(folder: Path, waiting: str) -> int:
    """The descriptor of a lock on the folder that is there now; the one that was waited for may have been removed."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
        except (FileExistsError, FileNotFoundError):
            if folder.is_file() or folder.is_symlink() or not folder.parent.is_dir():
                raise
            continue  # it was removed in between
        if _is_held_by_another(descriptor, folder):
            log.info(waiting)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, folder):
            return descriptor
        os.close(descriptor)


def _is_held_by_another(descriptor: int, folder: Path) -> bool:
    """Take the lock of ``folder``, unless another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:  # results are not to be lost for want of a lock
        log.warning("%s: no lock on this file system (%s); let no other process write there", folder, error)
    return False


def _is_at(descriptor: int, folder: Path) -> bool:
    """Whether ``folder`` is what the descriptor was opened on."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
