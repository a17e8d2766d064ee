"""What the files of a job say of it while a sweep runs."""

import json
import os
import signal
from pathlib import Path

from gpt2lab.locks import try_lock
from gpt2lab.runs.layout import METRICS
from gpt2lab.runs.records import read_summary


def saved_step_text(run_dir: Path) -> str:
    """After which step a run was stopped; empty where it does not say."""
    step = read_summary(run_dir).get("steps")
    return f" after step {step}, state saved" if step else ""


def result_text(run_dir: Path) -> str:
    """The validation loss of a completed run; empty without."""
    loss = read_summary(run_dir).get("val_loss")
    return f", val loss {loss:.4f}" if isinstance(loss, float) else ""


def last_step(run_dir: Path) -> int:
    """Step of the last whole line of the run's metrics; 0 before the first."""
    try:
        with (run_dir / METRICS).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            for line in reversed(file.read().splitlines()):
                try:
                    return int(json.loads(line)["step"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue
    except OSError:
        return 0
    return 0


def is_busy(run_dir: Path) -> bool:
    """Whether a process works in a run folder."""
    if not run_dir.is_dir():
        return False
    try:
        descriptor = try_lock(run_dir)
    except OSError:  # it cannot be opened: the job will say why
        return False
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def last_error(console: Path, start: int, status: int) -> str:
    """The last error line that a failed attempt printed, from byte ``start`` on, with its exit status."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    try:
        text = console.read_bytes()[start:].decode(errors="replace")
    except OSError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error")]
    last = (errors or lines or ["it printed nothing"])[-1]
    return f"exit status {status}: {last.removeprefix('error: ')}"
