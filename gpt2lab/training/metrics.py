"""The run's record: JSON objects, one a line, each with its ``step``.

``metrics.jsonl`` holds the figures and ``tokens`` trained on, ``samples.jsonl`` text that the model drew.
"""

import math
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gpt2lab.runs import append_lines, read_lines, rewind_lines
from gpt2lab.runs.layout import METRICS, SAMPLES
from gpt2lab.training.loggers import Logger


class MetricsLog:
    """Appends lines and flushes each, so that a killed run leaves readable files; tells the loggers the same."""

    def __init__(self, run_dir: Path, loggers: Sequence[Logger] = ()) -> None:
        self.path, self.samples_path, self.loggers = run_dir / METRICS, run_dir / SAMPLES, loggers

    def start(self, step: int, run_id: str) -> None:
        """Begin, or go on after ``step``: later lines are dropped, since a resumed run writes each step once."""
        for path in (self.path, self.samples_path):
            rewind_lines(path, step)
        for logger in self.loggers:
            logger.start(run_id, read_lines(self.path), read_lines(self.samples_path))

    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """Tell the loggers the final figures."""
        for logger in self.loggers:
            logger.finish(summary, plots)

    def write(self, step: int, tokens: int, **figures: Any) -> None:
        """Add one line, and tell the loggers."""
        line = {"step": step, "tokens": tokens, **_numbers(figures)}
        append_lines(self.path, [line])
        for logger in self.loggers:
            logger.log(line)

    def write_samples(self, step: int, samples: Sequence[dict[str, str]]) -> None:
        """Add text that the model drew after this step."""
        lines = [{"step": step, **sample} for sample in samples]
        append_lines(self.samples_path, lines)
        for logger in self.loggers:
            logger.log_samples(lines)


def _numbers(figures: dict[str, Any]) -> dict[str, Any]:
    """NaN and infinity as null: JSON has neither."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process has held: on the GPU for a run there, else in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
