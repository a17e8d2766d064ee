"""Writes the checkpoints of a run and deletes the old ones.

The links ``last`` and ``best`` point to two of the folders. The newest ``keep`` folders and the best one stay.
"""

import errno
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from gpt2lab.checkpoint.folders import REPLACED, folder_name, follow_link, list_checkpoints, point_link, step_of
from gpt2lab.checkpoint.manifest import verify_checkpoint, write_checkpoint_manifest
from gpt2lab.checkpoint.parts import Stateful, copy_to_cpu, read_part, tensor_bytes, write_part
from gpt2lab.config import UserError, one_line
from gpt2lab.files import rename_over, sync_folder, write_synced
from gpt2lab.runs.layout import BEST, LAST


@dataclass
class CheckpointManager:
    """Writes checkpoints of ``parts`` and keeps the newest and the best."""

    folder: Path
    """of all checkpoints"""
    parts: Mapping[str, Stateful]
    """by name; each is saved and loaded"""
    description: dict[str, Any]
    """plain values for each manifest, for readers that do not have the parts"""
    keep: int
    """number of newest checkpoints that stay"""
    files: Mapping[str, str] = field(default_factory=dict)
    """name and content of files that each checkpoint carries unchanged (the tokenizer's)"""

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
        return self.folder / folder_name(step)

    def _write(self, step: int, states: dict[str, dict[str, Any]], *, best: bool) -> None:
        final = self._folder_of(step)
        temporary, replaced = final.with_suffix(".tmp"), final.with_suffix(REPLACED)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        needed = sum(map(tensor_bytes, states.values()))
        try:
            temporary.mkdir()
            _require_space(self.folder, needed)
            files = [write_part(temporary, name, state) for name, state in states.items()]
            for name, content in self.files.items():
                write_synced(temporary / name, content.encode())
                files.append(temporary / name)
            write_checkpoint_manifest(temporary, step, files, self.description)
            if final.is_symlink():
                final.unlink()  # the folder that it points to is the user's
            rename_over(temporary, final, replaced)  # a step that is saved again, after a resume, has a folder
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors raise their own
            raise UserError(
                f"the checkpoint of step {step} was not written ({one_line(error)}); it needs {needed:,} bytes, "
                f"{self.folder} has {shutil.disk_usage(self.folder).free:,} free: make room and type resume=auto"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # it is gone if all went well
        sync_folder(self.folder)
        shutil.rmtree(replaced, ignore_errors=True)
        for link in (LAST, BEST) if best else (LAST,):
            point_link(self.folder / link, final)
        self._prune()

    def point_links(self, last: Path, best_step: int) -> None:
        """Let ``last`` and ``best`` point to the checkpoints of a resumed run, as a kill or a copy may have lost them.

        Args:
            last: the checkpoint that is resumed.
            best_step: step of the best checkpoint; 0: there is none.
        """
        best = self._folder_of(best_step)
        point_link(self.folder / LAST, last)
        if best_step and best.is_dir():
            point_link(self.folder / BEST, best)

    def has(self, step: int) -> bool:
        """Whether there is a checkpoint of this step, complete or not."""
        return self._folder_of(step).is_dir()

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

    def _remove_leftovers(self) -> None:
        """Delete what a process left that was killed while it wrote."""
        for leftover in self.folder.glob("step_*.tmp"):
            if step_of(leftover.stem) is not None and not leftover.is_symlink():
                shutil.rmtree(leftover)

    def _prune(self) -> None:
        pinned = {follow_link(self.folder / link).resolve() for link in (LAST, BEST)}
        own = [checkpoint for checkpoint in list_checkpoints(self.folder) if not checkpoint.is_symlink()]
        for old in own[self.keep :]:
            if old.resolve() not in pinned:
                shutil.rmtree(old)


@dataclass
class BackgroundCheckpoints(CheckpointManager):
    """Copies the state and writes it in a thread during the next steps; takes memory for one more state."""

    _writer: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint"), init=False
    )
    _pending: Future[None] | None = field(default=None, init=False)

    def save(self, step: int, *, best: bool) -> Path:
        """Start to write; errors of the previous checkpoint are raised here, those of this one at the next call."""
        self.wait()
        states = copy_to_cpu(self._states())
        self._pending = self._writer.submit(self._write, step, states, best=best)
        return self._folder_of(step)

    def wait(self) -> None:
        """See ``CheckpointManager.wait``."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()


@dataclass
class UnwrittenCheckpoints(CheckpointManager):
    """Of a process that writes no files: it takes part where a state is gathered from all processes."""

    def save(self, step: int, *, best: bool) -> Path:
        """Gather the states and drop them; return the folder that the main process writes."""
        self._states()
        return self._folder_of(step)

    def point_links(self, last: Path, best_step: int) -> None:
        """Nothing: the main process does it."""


def _require_space(folder: Path, needed: int) -> None:
    """Raise ``OSError`` unless the disk has room for ``needed`` bytes, before a file is written."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
