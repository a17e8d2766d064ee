"""``metrics.jsonl`` and ``samples.jsonl``: one JSON object per line, each with its ``step``.

A line of ``metrics.jsonl`` holds metrics by name and ``tokens``, the tokens trained on so far; a line of
``samples.jsonl`` a prompt and the text that the model generated.
"""

import json
import math
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gpt2lab.training.loggers import Logger

METRICS, SAMPLES = "metrics.jsonl", "samples.jsonl"


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
        self.rewind(step)
        for logger in self.loggers:
            logger.start(run_id, read_lines(self.path), read_lines(self.samples_path))

    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """Pass the final metrics and plots to the loggers and close them."""
        for logger in self.loggers:
            logger.finish(summary, plots)

    def write(self, step: int, tokens: int, **metrics: Any) -> None:
        """Append one line; NaN and infinity become null, since JSON has neither."""
        line = {"step": step, "tokens": tokens, **_finite_or_none(metrics)}
        _append(self.path, line)
        for logger in self.loggers:
            logger.log(line)

    def write_samples(self, step: int, samples: Sequence[dict[str, str]]) -> None:
        """Append text that the model generated after this step."""
        lines = [{"step": step, **sample} for sample in samples]
        _append(self.samples_path, *lines)
        for logger in self.loggers:
            logger.log_samples(lines)

    def rewind(self, step: int) -> None:
        """Drop the lines after ``step``, and a last line that was cut off by a kill."""
        for path in (self.path, self.samples_path):
            if path.exists():
                kept = [line for line in read_lines(path) if line["step"] <= step]
                temporary = path.with_suffix(".tmp")
                temporary.unlink(missing_ok=True)
                _append(temporary, *kept)
                temporary.replace(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; a line cut off by a kill is left out; no file: no objects."""
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def _append(path: Path, *lines: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def _finite_or_none(metrics: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process has used: on its GPU if it has one, else in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
