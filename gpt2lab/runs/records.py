"""Readers and writers of a run directory's files.

Records of JSON lines survive a kill: a line that was cut off is left out when the file is read.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpt2lab.config import UserError
from gpt2lab.runs.layout import CHECKPOINTS, CONFIG, ENVIRONMENT, LAST, METRICS, RUNS, SUMMARY, SWEEP

log = logging.getLogger(__name__)

Line = dict[str, Any]

SCHEMA_VERSION = 1
"""of ``summary.json``"""
COMPLETED = "completed"


@dataclass(frozen=True)
class RunRecord:
    """What a run directory says of its run."""

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    """empty if the file is missing"""
    summary: dict[str, Any]
    """empty if the run has not written any"""
    metrics: list[Line]
    damaged_lines: int
    """lines of the metrics that are not JSON; the last one may have been cut off by a kill"""

    @property
    def status(self) -> str:
        """``completed``, ``running``, ``stopped``, ``failed: ...``; ``unknown`` without a summary."""
        return str(self.summary.get("status", "unknown"))


def read_run(folder: Path) -> RunRecord:
    """Read a run directory.

    Raises:
        UserError: it has no ``config.yaml``, or a file in it cannot be parsed.
    """
    config_file = folder / CONFIG
    if not config_file.is_file():
        raise UserError(f"{folder}: no {CONFIG} in it; expected a run directory, such as runs/DAY/TIME-ID")
    try:
        config = yaml.safe_load(config_file.read_text())
        environment, summary = (_read_json(folder / name) for name in (ENVIRONMENT, SUMMARY))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{folder}: cannot be read: {' '.join(str(error).split())}") from error
    metrics, damaged = _parse_lines(folder / METRICS)
    return RunRecord(folder, config, environment, summary, metrics, damaged)


def read_lines(path: Path) -> list[Line]:
    """The objects of a file of JSON lines; a damaged line is left out; no file, no lines."""
    return _parse_lines(path)[0]


def append_lines(path: Path, lines: Sequence[Line]) -> None:
    """Add lines to a file of JSON lines; NaN and infinity are a ``ValueError``, since JSON has neither."""
    with path.open("a") as file:
        file.writelines(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def rewind_lines(path: Path, step: int) -> None:
    """Drop the lines after ``step``, and a damaged last one."""
    if path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        append_lines(temporary, [line for line in read_lines(path) if line["step"] <= step])
        temporary.replace(path)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Replace a JSON file at once, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n")
    temporary.replace(path)


def newest_run(runs: Path = Path(RUNS)) -> Path | None:
    """The completed run whose last checkpoint is the newest; runs of a sweep are never taken.

    A newer run that was passed over is named in a warning. Without a completed run it is the newest interrupted one,
    with a warning.
    """
    every = _runs_by_age(runs)
    folders = [folder for folder in every if not _is_in_sweep(folder, runs)]
    completed = [folder for folder in folders if _status(folder) == COMPLETED]
    chosen = next(iter(completed or folders), None)
    if chosen is None:
        if every:
            log.warning("all runs are part of sweeps; name one, such as checkpoint=%s", every[0])
    elif not completed:
        log.warning("no run is completed; taking %s, the newest of the others", chosen)
    elif every[0] != chosen:
        reason = "part of a sweep" if _is_in_sweep(every[0], runs) else "not completed"
        log.warning("taking %s; %s is newer, but %s; checkpoint=%s takes it", chosen, every[0], reason, every[0])
    return chosen


def newest_started_run(runs: Path = Path(RUNS)) -> Path | None:
    """The run whose last checkpoint is the newest, completed or not; runs of a sweep are never taken."""
    return next((folder for folder in _runs_by_age(runs) if not _is_in_sweep(folder, runs)), None)


def _runs_by_age(runs: Path) -> list[Path]:
    """The runs that have a checkpoint, the newest first."""
    links = [link for link in runs.glob(f"**/{CHECKPOINTS}/{LAST}") if link.is_dir()]
    return [link.parent.parent for link in sorted(links, key=lambda link: link.lstat().st_mtime, reverse=True)]


def _status(folder: Path) -> object:
    try:
        return _read_json(folder / SUMMARY).get("status")
    except ValueError:  # damaged
        return None


def _is_in_sweep(folder: Path, runs: Path) -> bool:
    parents = folder.relative_to(runs).parents
    return any((runs / parent / SWEEP).is_file() for parent in parents)


def _parse_lines(path: Path) -> tuple[list[Line], int]:
    lines: list[Line] = []
    damaged = 0
    if path.exists():
        for text in path.read_text(errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                damaged += 1
    return lines, damaged


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text())
    return values
