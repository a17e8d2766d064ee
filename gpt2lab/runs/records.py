"""Readers and writers of a run directory's files.

Records of JSON lines survive a kill: a line that was cut off is left out when the file is read.
"""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from gpt2lab.config import UserError, one_line
from gpt2lab.files import append_text, parse_json, write_text
from gpt2lab.runs.layout import CONFIG, METRICS, SAMPLES, SUMMARY

log = logging.getLogger(__name__)

Line = dict[str, Any]

YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

DEEPEST = 50
"""nesting of a ``config.yaml``; ours has five levels"""

SCHEMA_VERSION = 1
"""of ``summary.json``"""
COMPLETED, STOPPED = "completed", "stopped"
START_STEP = "start_step"
"""key of ``environment.json``: optimizer steps that were taken before this start, 0 where the training began with it"""
DIVERGED = ("training diverged", "non-finite")
"""in the reason of a run that failed because its loss or gradients were non-finite"""


class LineFormat(NamedTuple):
    """What a line of a record holds; a line of another kind is damaged."""

    kind: Any = dict[str, Any]
    """its type"""
    counts: tuple[str, ...] = ()
    """keys that it has, each with an integer"""


LINE_FORMATS = {
    METRICS: LineFormat(dict[str, int | float | None], ("step", "tokens")),
    SAMPLES: LineFormat(dict[str, int | str], ("step",)),
}
"""by file name; other files of JSON lines hold any objects"""


class SummaryFields(msgspec.Struct):
    """The types of what is read from ``summary.json``; it may hold more, and each field may be missing."""

    status: str = ""
    steps: int = 0
    tokens: int = 0
    parameters: int = 0
    wall_seconds: float = 0.0
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    """on a CPU the peak of the Python process, earlier runs in it included"""
    val_tokens: int = 0
    val_loss: float | None = None
    unigram_loss: float = 0.0


@dataclass(frozen=True)
class RunRecord:
    """What a run directory says of its run."""

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    """empty if the run has not written any"""

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
    return RunRecord(folder, read_config(config_file), read_object(folder / SUMMARY))


def read_config(path: Path) -> dict[str, Any]:
    """The content of a run's ``config.yaml``.

    Raises:
        UserError: it is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _check_depth(text)
        config = yaml.load(text, Loader=YAML_LOADER)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: damaged: cannot be read: {one_line(error)}") from error
    if not isinstance(config, dict) or not config:
        raise UserError(f"{path}: damaged: expected the configuration of a run")
    return config


def _check_depth(text: str) -> None:
    """Raise ``ValueError`` for YAML nested so deep that libyaml would overflow the stack."""
    depth = 0
    for event in yaml.parse(text, Loader=YAML_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if the file is missing.

    Raises:
        UserError: it is damaged.
    """
    values = parse_json(path.read_bytes(), path) if path.is_file() else {}
    if path.name == SUMMARY:
        try:
            msgspec.convert(values, SummaryFields)
        except msgspec.ValidationError as error:
            raise UserError(f"{path}: damaged: {error}") from error
    return values


def read_lines(path: Path) -> list[Line]:
    """The objects of a file of JSON lines; a damaged line is left out; no file, no lines."""
    return parse_lines(path)[0]


def append_lines(path: Path, lines: Sequence[Line]) -> None:
    """Add lines to a file of JSON lines; NaN and infinity are a ``ValueError``, since JSON has neither."""
    append_text(path, _to_text(lines))


def rewind_lines(path: Path, step: int) -> None:
    """Drop the lines of ``metrics.jsonl`` or ``samples.jsonl`` after ``step``, and damaged ones.

    The record of a start that left no checkpoint to continue from is kept, under a numbered name.
    """
    if not path.exists():
        return
    if step == 0 and path.stat().st_size:
        earlier = free_name(path)
        path.rename(earlier)
        log.warning("%s: the record of an earlier start is kept as %s", path, earlier.name)
        return
    lines, damaged = parse_lines(path)
    if damaged:
        log.warning("%s: %d damaged lines are left out", path, damaged)
    write_text(path, _to_text([line for line in lines if line["step"] <= step]))


def free_name(path: Path) -> Path:
    """``path``, or the first of its numbered names that no file has."""
    return next(name for name in _numbered_names(path) if not name.exists())


def written_at_each_start(path: Path) -> list[Path]:
    """``path`` and its numbered names, as far as they are there: one file for each start of a run."""
    return list(takewhile(Path.is_file, _numbered_names(path)))


def newest_config(run_dir: Path) -> Path:
    """The configuration of the newest start of a run: of the last that resumed it, else ``config.yaml``."""
    written = written_at_each_start(run_dir / CONFIG)
    return written[-1] if written else run_dir / CONFIG


def _numbered_names(path: Path) -> Iterator[Path]:
    """``config.yaml``, ``config.2.yaml``, ``config.3.yaml``, ..."""
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}.{number}{path.suffix}")


def finite_or_none(value: Any) -> Any:
    """Plain values, nested or not, with None for NaN and infinity, since JSON has neither."""
    if isinstance(value, dict):
        return {key: finite_or_none(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Replace a JSON file at once, so that a reader never sees half of it; NaN and infinity are a ``ValueError``."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_summary(run_dir: Path) -> dict[str, Any]:
    """The content of ``summary.json``; empty if it is missing or damaged."""
    try:
        return read_object(run_dir / SUMMARY)
    except UserError:
        return {}


def stopped_as_diverged(status: str, error: str | None) -> bool:
    """Whether a run that did not complete failed because it diverged; a killed one, or one without memory, did not.

    Args:
        status: of ``summary.json``, else of the job in ``sweep.json``.
        error: what ``sweep.json`` says of the failure.
    """
    reason = f"{status} {error}".lower()
    return status.startswith("failed") and any(words in reason for words in DIVERGED)


def has_outcome(run_dir: Path | None, status: str, error: str | None) -> bool:
    """Whether a job of a sweep completed or diverged; a killed one says nothing of its settings.

    Args:
        run_dir: whose ``summary.json`` comes first; None: there is none.
        status: what ``sweep.json`` says of the job.
        error: what it says of the failure.
    """
    summary = read_summary(run_dir) if run_dir else {}
    status = str(summary.get("status") or status)
    return status == COMPLETED or stopped_as_diverged(status, error)


def parse_lines(path: Path) -> tuple[list[Line], int]:
    """The objects of a file of JSON lines, and the number of its damaged lines."""
    if not path.is_file():
        return [], 0
    content = path.read_bytes()
    expected = LINE_FORMATS.get(path.name, LineFormat())
    lines: list[Line] = []
    damaged = 0
    try:
        lines = msgspec.json.Decoder(expected.kind).decode_lines(content)  # all at once: a sweep has millions of lines
    except (ValueError, RecursionError):
        for line in content.splitlines():
            try:
                lines.append(msgspec.convert(parse_json(line, path), expected.kind))
            except (UserError, msgspec.ValidationError):
                damaged += 1
    whole = [line for line in lines if all(type(line.get(key)) is int for key in expected.counts)]
    return whole, damaged + len(lines) - len(whole)


def _to_text(lines: Sequence[Line]) -> str:
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
