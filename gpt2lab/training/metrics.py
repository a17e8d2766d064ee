"""The run's record: one JSON object a line in ``metrics.jsonl``, each with ``step`` and ``tokens``."""

import json
import math
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gpt2lab.training.loggers import Logger


class MetricsLog:
    """Appends lines to ``metrics.jsonl`` and flushes each, so that a killed run leaves a readable file."""

    def __init__(self, path: Path, loggers: Sequence[Logger] = ()) -> None:
        self.path, self.loggers = path, loggers

    def start(self, step: int) -> None:
        """Begin, or go on after ``step``: later lines are dropped, since a resumed run writes each step once."""
        self.rewind(step)
        for logger in self.loggers:
            logger.start(read_metrics(self.path) if self.path.exists() else [])

    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """Tell the loggers the final figures."""
        for logger in self.loggers:
            logger.finish(summary, plots)

    def write(self, step: int, tokens: int, **figures: Any) -> None:
        """Add one line, and tell the loggers."""
        line = {"step": step, "tokens": tokens, **_numbers(figures)}
        with self.path.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        for logger in self.loggers:
            logger.log(line)

    def rewind(self, step: int) -> None:
        """Drop the lines after ``step``, and a half-written last one."""
        if self.path.exists():
            kept = [line for line in read_metrics(self.path) if line["step"] <= step]
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
            temporary.replace(self.path)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; one cut off by a kill is left out."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def _numbers(figures: dict[str, Any]) -> dict[str, Any]:
    """NaN and infinity as null: JSON has neither."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process has held: on the GPU for a run there, else in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
