"""Files: hashes, writes that are on the disk when they return, and JSON from outside."""

import hashlib
import io
import json
import os
import shlex
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gpt2lab.config import UserError, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UMASK = os.umask(0o077)
os.umask(UMASK)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(file: IO[Any]) -> None:
    """Have the operating system put an open file on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the operating system put a folder's entries, and so a rename within it, on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file in place; it is on the disk when this returns. Raises ``OSError``."""
    with path.open("wb") as file:
        file.write(content)
        sync(file)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, or replace it at once: whatever happens, there is the old content or the new one.

    Raises:
        UserError: there is no room, or the file cannot be written there.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is not a file; expected the name of a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(temporary, content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise not_written(path, len(content), error) from error


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` of a text in UTF-8."""
    write_bytes(path, content.encode("utf-8", "surrogatepass"))


def save_figure(figure: "Figure", path: Path, **options: Any) -> Path:
    """``write_bytes`` of a figure, in the format of the file's name; return ``path``. ``options``: of ``savefig``."""
    image = io.BytesIO()
    figure.savefig(image, format=path.suffix[1:], **options)
    write_bytes(path, image.getvalue())
    return path


def rename_over(new: Path, folder: Path, predecessor: Path) -> None:
    """Give ``new`` the name ``folder``; a folder that has it becomes ``predecessor``.

    A kill between the two renames leaves the predecessor, to which ``restore_predecessor`` gives its name back.
    """
    if folder.exists():
        shutil.rmtree(predecessor, ignore_errors=True)
        folder.rename(predecessor)
    new.rename(folder)


def restore_predecessor(folder: Path, predecessor: Path) -> bool:
    """Undo a ``rename_over`` that was killed between its renames; returns whether it was."""
    if folder.exists() or not predecessor.is_dir():
        return False
    predecessor.rename(folder)
    return True


def append_text(path: Path, content: str) -> None:
    """Add to a file; what a full disk cuts off is removed again. Raises ``UserError`` as ``write_bytes`` does."""
    try:
        with path.open("ab", buffering=0) as file:  # what a buffer holds would be written at its end once more
            end, left = file.seek(0, os.SEEK_END), memoryview(content.encode("utf-8", "surrogatepass"))
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(end)
                raise
    except OSError as error:
        raise not_written(path, len(content), error) from error


def not_written(path: Path, needed: int, error: Exception) -> UserError:
    """The error line for a file that could not be written."""
    reason = getattr(error, "strerror", None) or one_line(error)
    return UserError(
        f"{path}: not written ({reason}); it needs {needed:,} bytes, the disk has {free_bytes(path):,} free; expected "
        "a place that can be written; make room and type the command again"
    )


def free_bytes(path: Path) -> int:
    """Free bytes of the disk that ``path`` is, or will be, on."""
    return shutil.disk_usage(_existing(path)).free


def check_writable(path: Path, key: str) -> None:
    """Raise ``UserError`` unless a file or folder can be made at ``path``, the value of ``key``; before the work."""
    try:
        path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links; ValueError: a null character
        raise UserError(f"{key}={path}: no place for a file ({one_line(error)}); try another {key}") from None
    parent = _existing(path.absolute().parent)
    if not parent.is_dir():
        raise UserError(f"{key}={path}: {parent} is a file; expected a folder there; try another {key}")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise UserError(f"{key}={path}: nothing can be written there ({error.strerror}); try another {key}") from error


def check_file_writable(path: Path, key: str, name: str) -> None:
    """``check_writable`` of a file that may be there already; ``name`` is what the file would be called in a folder."""
    check_writable(path, key)
    if path.exists() and not path.is_file():
        raise UserError(
            f"{key}={path}: is not a file; expected the name of a file; try {shlex.quote(f'{key}={path / name}')}"
        )


def apply_umask(path: Path) -> None:
    """Give a file the permissions of any new file; safetensors makes its files readable by their owner only."""
    path.chmod(0o666 & ~UMASK)


def _existing(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        UserError: it is missing, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: a Hugging Face directory has it beside its safetensors files")
    return parse_json(path.read_bytes(), path)


def parse_json(content: bytes | str, where: Path) -> dict[str, Any]:
    """The JSON object that a file or a line of it holds.

    Raises:
        UserError: it holds something else, is not UTF-8, or is nested too deep.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: damaged: expected JSON: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise UserError(f"{where}: damaged: expected a JSON object, found {type(values).__name__}")
    return values
