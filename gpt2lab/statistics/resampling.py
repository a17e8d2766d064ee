"""Bootstrap and jackknife intervals over a set of texts.

Sums over texts are bootstrapped. Statistics that count what texts share, such as self-BLEU and distinct-n, are not: a
text drawn twice would be its own copy, which raises self-BLEU and lowers distinct-n. The jackknife leaves texts out and
makes no copies.

Legend: S = texts, R = bootstrap draws, G = groups of texts.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gpt2lab.statistics.intervals import Z95, Interval

Item = TypeVar("Item")

GROUPS = 32
"""groups that the jackknife leaves out in turn"""


def draw_weights(n_texts: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each text is in each bootstrap draw, [R, S]; every row sums to S."""
    return np.random.default_rng(seed).multinomial(n_texts, np.full(n_texts, 1 / n_texts), size=resamples)


def bootstrap_ratio(
    numerator_S: NDArray[np.float64], denominator_S: NDArray[np.float64], weights_RS: NDArray[np.int64]
) -> Interval | None:
    """95 % percentile interval of sum(numerator) / sum(denominator) (Efron and Tibshirani 1993, section 13.3).

    None where no draw has a denominator above 0.
    """
    total_R = weights_RS @ denominator_S
    ratio_R = (weights_RS @ numerator_S)[total_R > 0] / total_R[total_R > 0]
    if not len(ratio_R):
        return None
    low, high = np.quantile(ratio_R, [0.025, 0.975])
    return float(low), float(high)


def jackknife(statistic: Callable[[Sequence[Item]], float], items: Sequence[Item]) -> Interval | None:
    """95 % normal interval with the variance of the statistic when one group of items is left out at a time.

    (G - 1) / G x sum of (statistic without group g - their mean)^2 over G groups, where group i holds the items i,
    i + G, i + 2G, ... (Shao and Tu 1995, section 2.3; with as many groups as items it is Tukey's jackknife). None where
    the statistic is NaN.
    """
    groups = min(GROUPS, len(items))
    without_G = np.array([statistic([item for i, item in enumerate(items) if i % groups != g]) for g in range(groups)])
    error = math.sqrt((groups - 1) / groups * ((without_G - without_G.mean()) ** 2).sum())
    value = statistic(items)
    return None if math.isnan(error) or math.isnan(value) else (value - Z95 * error, value + Z95 * error)
