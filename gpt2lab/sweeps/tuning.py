"""The best value of a tuned key for each condition.

A quadratic is fitted to the mean final validation loss over the logarithm of the value. Its minimum is taken, within
the values tried. The same values and seeds serve every condition, so none has a larger budget.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gpt2lab.sweeps.record import TunedCondition


def choose_value(losses: Mapping[float, Sequence[float | None]]) -> TunedCondition:
    """Choose a value.

    Args:
        losses: value -> final validation loss of each tuning seed; None or non-finite: the run diverged or failed. A
            value with such a run is not a candidate.

    Returns:
        The best value, rounded to three digits, and whether the lowest mean lies at the edge of the values tried.

    Raises:
        ValueError: no value has finite losses only.
    """
    values = sorted(losses)
    means = [_finite_mean(losses[value]) for value in values]
    candidates = [(value, mean) for value, mean in zip(values, means, strict=True) if mean is not None]
    if not candidates:
        raise ValueError("no value was trained to the end with every seed")
    lowest = min(candidates, key=lambda candidate: candidate[1])[0]
    best = lowest
    if len(candidates) >= 3:
        log_values, mean_losses = np.log([value for value, _ in candidates]), np.array([mean for _, mean in candidates])
        # the lowest mean and its neighbors: far from the optimum the curve is not a parabola
        middle = min(max(int(np.argmin(mean_losses)), 1), len(candidates) - 2)
        near = slice(max(0, middle - 2), middle + 3)
        curvature, slope, _ = np.polyfit(log_values[near], mean_losses[near], 2)
        if curvature > 0:
            vertex = float(np.clip(-slope / (2 * curvature), log_values[0], log_values[-1]))
            best = math.exp(vertex)
    at_edge = lowest in (values[0], values[-1])
    return TunedCondition(float(f"{lowest if at_edge else best:.3g}"), values, means, at_edge)


def _finite_mean(losses: Sequence[float | None]) -> float | None:
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    return sum(finite) / len(finite) if finite and len(finite) == len(losses) else None
