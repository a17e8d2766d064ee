"""``metrics.jsonl`` and ``samples.jsonl``: one JSON object per line, each with its ``step``.

A line of ``metrics.jsonl`` holds metrics by name and ``tokens``, the tokens trained on so far; a line of
``samples.jsonl`` a prompt and the text that the model generated.
"""

import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gpt2lab.runs import append_lines, read_lines, rewind_lines
from gpt2lab.runs.layout import METRICS, SAMPLES
from gpt2lab.runs.records import finite_or_none
from gpt2lab.training.loggers import Logger


class MetricsLog:
    """Appends lines and flushes each, so that a killed run leaves readable files; passes them on to the loggers.

    Args:
        run_dir: folder of the files.
        loggers: dashboards that show the same lines.
    """

    def __init__(self, run_dir: Path, loggers: Sequence[Logger] = ()) -> None:
        self.path, self.samples_path, self.loggers = run_dir / METRICS, run_dir / SAMPLES, loggers

    def start(self, step: int, run_id: str) -> None:
        """Continue after ``step``: later lines are dropped, because a resumed run writes each step again."""
        for path in (self.path, self.samples_path):
            rewind_lines(path, step)
        for logger in self.loggers:
            logger.start(run_id, read_lines(self.path), read_lines(self.samples_path))

    def loss_of(self, step: int) -> float | None:
        """The training loss of this step; None if it was not logged."""
        return next((line["loss"] for line in read_lines(self.path) if line["step"] == step and "loss" in line), None)

    def is_validated(self, step: int) -> bool:
        """Whether there is a line of a validation after this step."""
        return any(line["step"] == step and "val_loss" in line for line in read_lines(self.path))

    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """Pass the final metrics and plots to the loggers and close them."""
        for logger in self.loggers:
            logger.finish(summary, plots)

    def write(self, step: int, tokens: int, **metrics: Any) -> None:
        """Append one line; NaN and infinity become null."""
        line = {"step": step, "tokens": tokens, **finite_or_none(metrics)}
        append_lines(self.path, [line])
        for logger in self.loggers:
            logger.log(line)

    def write_samples(self, step: int, samples: Sequence[dict[str, str]]) -> None:
        """Append text that the model generated after this step."""
        lines = [{"step": step, **sample} for sample in samples]
        append_lines(self.samples_path, lines)
        for logger in self.loggers:
            logger.log_samples(lines)


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory used: on the GPU, since ``open_runtime``; on a CPU, in RAM, since this Python process began.

    The system keeps no other peak of a process, so a run after a larger one in the same Python process has that one's.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
