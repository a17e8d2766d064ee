"""Runs that end in two kinds of outcome: some seeds recover from a plateau, others do not.

A mean and a standard deviation describe neither kind. The largest gap between sorted values, over the sum of the
other gaps, is compared with the same ratio for normal values.
"""

import functools
from dataclasses import dataclass

import numpy as np

from gpt2lab.statistics.intervals import Array

FALSE_ALARMS = 0.01
"""share of normal samples that are flagged"""
FEWEST = 4
"""with three values one large gap is nothing unusual"""


@dataclass(frozen=True)
class TwoModes:
    """Values on two sides of a gap that is too large for one normal distribution."""

    lower: int
    upper: int
    """number of values on each side"""
    gap: float


def find_two_modes(values: Array) -> TwoModes | None:
    """Split sorted values at the largest gap; None where one normal distribution explains the gap.

    The bound is the 99 % point of largest gap / sum of the other gaps over 20,000 simulated normal samples of this
    size, so about 1 % of calm conditions are flagged.
    """
    if len(values) < FEWEST:
        return None
    gaps = np.diff(np.sort(values))
    at = int(gaps.argmax())
    largest, rest = float(gaps[at]), float(gaps.sum() - gaps[at])
    if largest == 0 or largest <= _gap_bound(len(values)) * rest:
        return None
    return TwoModes(at + 1, len(values) - at - 1, largest)


@functools.cache
def _gap_bound(n: int) -> float:
    gaps = np.diff(np.sort(np.random.default_rng(0).normal(size=(20_000, n)), axis=1), axis=1)
    largest = gaps.max(axis=1)
    return float(np.quantile(largest / (gaps.sum(axis=1) - largest), 1 - FALSE_ALARMS))
