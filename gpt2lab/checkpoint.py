"""Checkpoints: the states of named parts in a folder that is either complete and verified, or ignored.

    parts -> step_00000100.tmp/ (a file a part, then checkpoint.json with sizes and hashes) -> rename -> step_00000100/

A part whose state is a flat dict of tensors (the model) becomes ``NAME.safetensors``. Any other becomes ``NAME.pt``,
which holds tensors and plain values only, so that ``torch.load(weights_only=True)`` reads it. The links ``last`` and
``best`` point to two of the folders. The newest ``keep`` folders and the best one stay; older ones are deleted.
"""

import errno
import hashlib
import json
import logging
import os
import pickle
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt2lab.config import UserError, one_line
from gpt2lab.files import apply_umask, file_sha256, parse_json, sync, sync_folder

FORMAT_VERSION = 1
MANIFEST = "checkpoint.json"
SELF_HASH = "sha256"
"""key of the hash over all other values of ``MANIFEST``; older checkpoints have none"""

log = logging.getLogger(__name__)


class Stateful(Protocol):
    """Anything that can be saved: its state consists of tensors and plain values."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Restore a state."""
        ...


class IncompleteCheckpointError(UserError):
    """A checkpoint folder that must not be used; the message says why."""


class CheckpointManager:
    """Writes checkpoints of ``parts`` under ``folder`` and keeps the newest ``keep`` and the best.

    Args:
        folder: of all checkpoints.
        parts: by name; each is saved and loaded.
        description: plain values for each manifest, for readers that do not have the parts.
        keep: number of newest checkpoints that stay.
        files: name and content of files that each checkpoint carries unchanged (the tokenizer's).
    """

    def __init__(
        self,
        folder: Path,
        parts: Mapping[str, Stateful],
        description: dict[str, Any],
        keep: int,
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder, self.parts, self.description, self.keep, self.files = folder, parts, description, keep, files

    def save(self, step: int, *, best: bool) -> Path:
        """Write the checkpoint of this step; return its folder.

        The link ``last`` (and ``best``) then points to it, and older checkpoints beyond ``keep`` are deleted.

        Raises:
            UserError: the disk is full, or the like; earlier checkpoints are untouched.
        """
        self._write(step, self._states(), best=best)
        return self._folder_of(step)

    def wait(self) -> None:
        """Wait until everything saved is on the disk; errors are those of ``save``."""

    def _states(self) -> dict[str, dict[str, Any]]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def _folder_of(self, step: int) -> Path:
        return self.folder / _folder_name(step)

    def _write(self, step: int, states: dict[str, dict[str, Any]], *, best: bool) -> None:
        final = self._folder_of(step)
        temporary = final.with_suffix(".tmp")
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob("step_*.tmp"):  # of a process that was killed while it wrote
            if _step_of(leftover.stem) is not None and not leftover.is_symlink():
                shutil.rmtree(leftover)
        needed = sum(map(_tensor_bytes, states.values()))
        try:
            temporary.mkdir()
            _require_space(self.folder, needed)
            files = [_write_part(temporary, name, state) for name, state in states.items()]
            for name, content in self.files.items():
                _write_synced(temporary / name, content.encode())
                files.append(temporary / name)
            manifest = {
                "format_version": FORMAT_VERSION,
                "step": step,
                "files": {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in files},
                **self.description,
            }
            manifest[SELF_HASH] = _manifest_hash(manifest)
            _write_synced(temporary / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
            # a step saved again (after a resume that started before it) replaces its folder
            if final.is_symlink():
                final.unlink()  # what it leads to is the user's
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
        except (
            OSError,
            RuntimeError,
            SafetensorError,
        ) as error:  # torch and safetensors have their own for a full disk
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(
                f"the checkpoint of step {step} was not written ({one_line(error)}); it needs {needed:,} bytes, "
                f"{self.folder} has {shutil.disk_usage(self.folder).free:,} free: make room and type resume=auto"
            ) from error
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(self.folder)
        for link in ("last", "best") if best else ("last",):
            _point(self.folder / link, final)
        self._prune()

    def load(self, checkpoint: Path) -> None:
        """Restore the state of every part.

        Raises:
            IncompleteCheckpointError: a file is missing or damaged.
            UserError: the checkpoint lacks a part, or a part does not fit.
        """
        manifest = verify_checkpoint(checkpoint)
        for name, part in self.parts.items():
            state = read_part(checkpoint, manifest, name)
            try:
                part.load_state_dict(state)
            except (RuntimeError, ValueError, TypeError) as error:
                raise UserError(f"{checkpoint}: {name} does not fit this run: {one_line(error)}") from error

    def _prune(self) -> None:
        pinned = {(self.folder / link).resolve() for link in ("last", "best")}
        own = [checkpoint for checkpoint in list_checkpoints(self.folder) if not checkpoint.is_symlink()]
        for old in own[self.keep :]:
            if old.resolve() not in pinned:
                shutil.rmtree(old)


class BackgroundCheckpoints(CheckpointManager):
    """Copies the state and writes it in a thread during the next steps; takes memory for one more state."""

    def __init__(
        self,
        folder: Path,
        parts: Mapping[str, Stateful],
        description: dict[str, Any],
        keep: int,
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(folder, parts, description, keep, files)
        self.writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self.pending: Future[None] | None = None

    def save(self, step: int, *, best: bool) -> Path:
        """Start to write; errors of the previous checkpoint are raised here, those of this one at the next call."""
        self.wait()
        states = _copied(self._states())
        self.pending = self.writer.submit(self._write, step, states, best=best)
        return self._folder_of(step)

    def wait(self) -> None:
        """See ``CheckpointManager.wait``."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            pending.result()


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint folders under ``folder``, newest first, complete or not.

    A copy under another name, such as step_00000004_keep, is the user's.
    """
    steps = {path: _step_of(path.name) for path in folder.glob("step_*") if path.is_dir()}
    ours = {path: step for path, step in steps.items() if step is not None}
    return sorted(ours, key=ours.__getitem__, reverse=True)


def _step_of(name: str) -> int | None:
    """The step of a checkpoint folder's name; None if the name is not one of ours."""
    digits = name.removeprefix("step_")
    return int(digits) if digits.isdecimal() and name == _folder_name(int(digits)) else None


def _folder_name(step: int) -> str:
    return f"step_{step:08d}"


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


def _manifest_hash(manifest: dict[str, Any]) -> str:
    others = {key: value for key, value in manifest.items() if key != SELF_HASH}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def _check_manifest(manifest: dict[str, Any]) -> None:
    """Raise ``ValueError``, ``KeyError`` or ``TypeError`` unless the step and the files are as they are written."""
    if not isinstance(manifest["step"], int):
        raise TypeError("its step is no whole number")
    for name, file in dict(manifest["files"]).items():
        if Path(name).name != name or not isinstance(file["bytes"], int) or not isinstance(file["sha256"], str):
            raise ValueError(f"its entry of {name} is not one of a file beside it")


def read_part(checkpoint: Path, manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the state of one part, on the CPU.

    Raises:
        UserError: the checkpoint has no such part, or its file does not parse.
    """
    try:
        if f"{name}.safetensors" in manifest["files"]:
            return dict(load_file(checkpoint / f"{name}.safetensors"))
        if f"{name}.pt" in manifest["files"]:
            state: dict[str, Any] = torch.load(checkpoint / f"{name}.pt", map_location="cpu", weights_only=True)
            return state
    except (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise IncompleteCheckpointError(f"{checkpoint}: {name} cannot be read: {one_line(error)}") from error
    raise UserError(f"{checkpoint} holds {', '.join(manifest['files'])}: no {name} to load")


def _require_space(folder: Path, needed: int) -> None:
    """Raise ``OSError`` unless the disk has room for ``needed`` bytes, before a file is written."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _tensor_bytes(state: Any) -> int:
    """Bytes of all tensors in a state, however nested."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(_tensor_bytes, state.values()))
    return sum(map(_tensor_bytes, state)) if isinstance(state, list | tuple) else 0


def _copied(state: Any) -> Any:
    """A state whose tensors are copies on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state


def _write_part(folder: Path, name: str, state: dict[str, Any]) -> Path:
    if all(isinstance(value, Tensor) for value in state.values()):
        path = folder / f"{name}.safetensors"
        save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, path)
        apply_umask(path)
    else:
        path = folder / f"{name}.pt"
        torch.save(state, path)
    with path.open("rb") as file:
        sync(file)
    return path


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        sync(file)


def _point(link: Path, target: Path) -> None:
    temporary = link.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    temporary.replace(link)
