"""Confidence intervals of means and ratios.

A corpus is a sample of documents and a task a sample of questions. Tokens of one document are not independent, so the
document is the unit. An interval says how far the value could move if other documents of the same kind were drawn.

Legend: D = documents (or any other independent units).
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import special

Interval = tuple[float, float]
Array = NDArray[np.float64]

Z95 = NormalDist().inv_cdf(0.975)
FEW_DOCUMENTS = 60
"""below it, fewer than some 90 % of nominal 95 % intervals hold the true value (docs/statistics.md)"""


def t_quantile(probability: float, df: float) -> float:
    """The value below which Student's t with ``df`` degrees of freedom lies with this probability.

    What ``scipy.stats.t.ppf`` computes; ``scipy.stats`` takes most of a second to import, in every command.
    """
    return float(special.stdtrit(df, probability))


def describe_document_interval(documents: int) -> str:
    """How an interval over documents is computed, and whether they are too few, for tables and records."""
    if documents < 2:
        return "none: one document says nothing of others"
    described = f"95 %, jackknife over {documents:,} documents, t with {documents - 1:,} degrees of freedom"
    return described + ("" if documents >= FEW_DOCUMENTS else f"; too narrow, since documents < {FEW_DOCUMENTS}")


def ratio_jackknife_interval(nll_D: Array, units_D: NDArray[np.integer], confidence: float = 0.95) -> Interval | None:
    """Interval of sum(nll) / sum(units) over documents [D]: jackknife variance, t with D - 1 degrees of freedom.

    variance = (D - 1) / D x sum over d of (ratio without document d - their mean)^2 (Tukey 1958; Miller 1974). A few
    long documents that carry most of the ratio widen this interval, where the delta method (Cochran 1977, section 6.4)
    stays far too narrow; with few documents this one is somewhat too narrow. None for a single document or where one
    document has all units.
    """
    documents = len(nll_D)
    total = units_D.sum()
    if documents < 2 or not total or (units_D == total).any():
        return None
    without_D = (nll_D.sum() - nll_D) / (total - units_D)
    error = math.sqrt((documents - 1) / documents * float(((without_D - without_D.mean()) ** 2).sum()))
    half = t_quantile((1 + confidence) / 2, documents - 1) * error
    ratio = float(nll_D.sum() / total)
    return ratio - half, ratio + half


def ratio_difference_interval(
    nll_D: Array, baseline_nll_D: Array, units_D: NDArray[np.integer], confidence: float = 0.95
) -> Interval | None:
    """Interval of the difference of two models' ratios on the same documents [D], paired by document.

    The difference of the sums is itself a ratio, sum(nll - baseline) / sum(units), so what makes a document hard for
    both models cancels. Jackknife and t as in ``ratio_jackknife_interval``.
    """
    return ratio_jackknife_interval(nll_D - baseline_nll_D, units_D, confidence)


def mean_error(values: Array) -> float | None:
    """Standard error of a mean, sample deviation / sqrt(n); None for a single value."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def mean_interval(values: Array) -> Interval | None:
    """95 % interval of a mean of many values, 1.96 standard errors on each side; None for a single value."""
    error = mean_error(values)
    return None if error is None else (float(values.mean() - Z95 * error), float(values.mean() + Z95 * error))


def proportion_interval(values: Array) -> Interval:
    """95 % interval of a proportion, from values of 0 and 1 (Wilson 1927).

    (k + z^2 / 2 +- z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2) for k ones of n values. Unlike 1.96 standard errors on
    each side it stays within [0, 1] and has a width where all values are equal.
    """
    n, ones = len(values), float(values.sum())
    half = Z95 * math.sqrt(ones * (n - ones) / n + Z95**2 / 4)
    low, high = ((ones + Z95**2 / 2 + side * half) / (n + Z95**2) for side in (-1, 1))
    return max(0.0, low), min(1.0, high)


def t_interval(values: Array, confidence: float = 0.95) -> Interval | None:
    """Interval of a mean of few values: mean +- t[n - 1] x sd / sqrt(n) (Student 1908); None for a single value."""
    error = mean_error(values)
    if error is None:
        return None
    half = t_quantile((1 + confidence) / 2, len(values) - 1) * error
    return float(values.mean() - half), float(values.mean() + half)
