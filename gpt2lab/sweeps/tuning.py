"""The best value of a tuned key for each condition.

A parabola is drawn through the lowest mean final validation loss and its neighbors, over the logarithm of the value.
Its minimum, which lies between the neighbors, is taken. The same values and seeds serve every condition, so none has a
larger budget.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gpt2lab.runs.records import COMPLETED, has_outcome, read_summary
from gpt2lab.sweeps.record import JobRecord, TunedCondition


def without_outcome(jobs: Sequence[JobRecord], folder: Path) -> list[str]:
    """Names of the tuning jobs that neither completed nor diverged: nothing can be chosen before they have run.

    A killed job says nothing of its value. Were the value dropped, this condition would have had fewer than others.
    """
    return [job.name for job in jobs if not has_outcome(folder / job.run_dir, job.status, job.error)]


def losses_by_value(key: str, jobs: Sequence[JobRecord], folder: Path) -> dict[float, list[float | None]]:
    """Final validation losses of one condition's tuning jobs by the value of ``key``; None: the run diverged."""
    losses: dict[float, list[float | None]] = defaultdict(list)
    for job in jobs:
        (value,) = (text.partition("=")[2] for text in job.overrides if text.startswith(f"{key}="))
        summary = read_summary(folder / job.run_dir)
        losses[float(value)].append(summary.get("val_loss") if summary.get("status") == COMPLETED else None)
    return dict(losses)


def choose_value(losses: Mapping[float, Sequence[float | None]]) -> TunedCondition:
    """Choose a value.

    Args:
        losses: value -> final validation loss of each tuning seed; None or non-finite: the run diverged. A value with
            such a run is not a candidate.

    Returns:
        The best value, and whether the lowest mean lies at an end of the candidates. There it is the value tried;
        else it is rounded to three digits, or to a whole number where all values are whole.

    Raises:
        ValueError: no value has finite losses only.
    """
    values = sorted(losses)
    means = [_finite_mean(losses[value]) for value in values]
    candidates = [(value, mean) for value, mean in zip(values, means, strict=True) if mean is not None]
    if not candidates:
        raise ValueError("no value was trained to the end with every seed")
    lowest = min(range(len(candidates)), key=lambda index: candidates[index][1])
    at_edge = lowest in (0, len(candidates) - 1)
    best = candidates[lowest][0]
    if not at_edge:
        vertex = _vertex(candidates[lowest - 1 : lowest + 2])
        are_whole = all(float(value).is_integer() for value in values)
        best = float(round(vertex) if are_whole else f"{vertex:.3g}")
    return TunedCondition(best, values, means, at_edge)


def _vertex(points: Sequence[tuple[float, float]]) -> float:
    """Minimum of the parabola through three points, the lowest in the middle, over the logarithm of the value."""
    log_values, means = np.log([value for value, _ in points]), [mean for _, mean in points]
    curvature, slope, _ = np.polyfit(log_values - log_values[1], means, 2)
    if curvature <= 0:  # three equal means
        return points[1][0]
    return points[1][0] * math.exp(-slope / (2 * curvature))


def _finite_mean(losses: Sequence[float | None]) -> float | None:
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    return sum(finite) / len(finite) if finite and len(finite) == len(losses) else None
