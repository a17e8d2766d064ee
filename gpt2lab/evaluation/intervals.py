"""How far a figure could be off, had other texts or questions of the same kind been drawn.

A corpus is taken as a sample of documents, a task as a sample of questions; tokens of one document go together, so
that they are no independent observations.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Z95 = NormalDist().inv_cdf(0.975)


def ratio_interval(nll_D: NDArray[np.float64], units_D: NDArray[np.integer]) -> tuple[float, float] | None:
    """95 % confidence of sum(nll) / sum(units) over documents [D], by the delta method (Cochran 1977, section 6.4).

    The residuals nll_d - ratio x units_d sum to 0; their spread, over the mean of the units, is that of the ratio. It
    leans on the central limit theorem: with fewer than some 20 documents it is too narrow. None for a single document.
    """
    documents = len(nll_D)
    total = units_D.sum()
    if documents < 2 or not total:
        return None
    ratio = nll_D.sum() / total
    residuals_D = nll_D - ratio * units_D
    error = math.sqrt(documents / (documents - 1) * float((residuals_D**2).sum())) / total
    return float(ratio - Z95 * error), float(ratio + Z95 * error)


def mean_error(values: NDArray[np.float64]) -> float | None:
    """Standard error of a mean, sample deviation / sqrt(n); None for a single value."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % confidence of a mean, 1.96 standard errors on each side; None for a single value."""
    error = mean_error(values)
    return None if error is None else (float(values.mean() - Z95 * error), float(values.mean() + Z95 * error))
