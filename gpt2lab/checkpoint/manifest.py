"""``checkpoint.json``: what a checkpoint holds, with the size and hash of every file and of itself."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpt2lab.config import UserError, one_line
from gpt2lab.files import file_sha256, parse_json, write_synced

FORMAT_VERSION = 1
MANIFEST = "checkpoint.json"
SELF_HASH = "sha256"
"""key of the hash over all other values of ``MANIFEST``; older checkpoints have none"""


class IncompleteCheckpointError(UserError):
    """A checkpoint folder that must not be used; the message says why."""


def write_checkpoint_manifest(folder: Path, step: int, files: Iterable[Path], description: dict[str, Any]) -> None:
    """Write the manifest of a folder that holds ``files``; without it, the folder is not a checkpoint."""
    manifest = {
        "format_version": FORMAT_VERSION,
        "step": step,
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in files},
        **description,
    }
    manifest[SELF_HASH] = _manifest_hash(manifest)
    write_synced(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint, without a check of its files.

    Raises:
        IncompleteCheckpointError: it is missing, damaged, or of a newer format.
    """
    path = checkpoint / MANIFEST
    if not path.is_file():
        raise IncompleteCheckpointError(f"{checkpoint} is not a complete checkpoint: it has no {MANIFEST}")
    try:
        manifest = parse_json(path.read_bytes(), path)
        version = int(manifest["format_version"])
        if version > FORMAT_VERSION:
            raise IncompleteCheckpointError(f"{path} has format {version}, newer than {FORMAT_VERSION}: update gpt2lab")
        if SELF_HASH in manifest and manifest[SELF_HASH] != _manifest_hash(manifest):
            raise ValueError("its SHA-256 is not the one written")
        _check_manifest(manifest)
    except UserError as error:
        raise IncompleteCheckpointError(str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise IncompleteCheckpointError(f"{path}: damaged: {one_line(error)}") from error
    return manifest


def verify_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Check the size and hash of every file; return the manifest.

    Raises:
        IncompleteCheckpointError: the manifest or a file is missing, damaged, or of a newer format.
    """
    manifest = read_manifest(checkpoint)
    for name, expected in manifest["files"].items():
        path = checkpoint / name
        size = path.stat().st_size if path.is_file() else None
        if size != expected["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes"
            raise IncompleteCheckpointError(
                f"{path} {found}, {expected['bytes']} bytes were written: the file is damaged"
            )
        if file_sha256(path) != expected["sha256"]:
            raise IncompleteCheckpointError(f"{path}: its SHA-256 is not the one written: the file is damaged")
    return manifest


def _manifest_hash(manifest: dict[str, Any]) -> str:
    others = {key: value for key, value in manifest.items() if key != SELF_HASH}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def _check_manifest(manifest: dict[str, Any]) -> None:
    """Raise ``ValueError``, ``KeyError`` or ``TypeError`` unless the step and the files are as they are written."""
    if not isinstance(manifest["step"], int):
        raise TypeError("its step is not a whole number")
    for name, file in dict(manifest["files"]).items():
        if Path(name).name != name or not isinstance(file["bytes"], int) or not isinstance(file["sha256"], str):
            raise ValueError(f"its entry of {name} is not one of a file beside it")
