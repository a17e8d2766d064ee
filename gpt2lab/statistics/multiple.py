"""Several comparisons in one study: adjusted p values and critical values of simultaneous intervals.

The family is stated by the caller: all variants against one baseline (Dunnett, Holm) or all pairs (Tukey, Holm).
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gpt2lab.statistics.intervals import t_quantile

OUTER, OUTER_WEIGHTS = np.polynomial.legendre.leggauss(160)
INNER, INNER_WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (Holm 1979): p_(i) x (m - i + 1), made monotone, at most 1."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return [float(p) for p in adjusted]


def bonferroni_critical(comparisons: int, df: float, alpha: float = 0.05) -> float:
    """Two-sided critical t for each of ``comparisons`` intervals that hold together with 1 - alpha."""
    return t_quantile(1 - alpha / (2 * comparisons), df)


def dunnett_p(t: float, comparisons: int, df: float) -> float:
    """Adjusted two-sided p of one of ``comparisons`` variants against a common baseline (Dunnett 1955).

    The t statistics share the baseline's mean and the residual's standard deviation, so each pair of them correlates
    with 0.5. In the block model (``blocks.py``) the same holds with (k - 1)(S - 1) degrees of freedom.
    """
    if not math.isfinite(t):
        return 0.0
    if comparisons == 1:
        return float(2 * stats.t.sf(abs(t), df))
    return float(max(0.0, 1.0 - _chance_all_within(abs(t), comparisons, df)))


@functools.lru_cache(maxsize=4096)
def dunnett_critical(comparisons: int, df: float, alpha: float = 0.05) -> float:
    """Two-sided critical value of Dunnett's test; Student's t for one comparison."""
    if comparisons == 1:
        return t_quantile(1 - alpha / 2, df)
    low = t_quantile(1 - alpha / 2, df)
    high = bonferroni_critical(comparisons, df, alpha) * 1.001
    return float(optimize.brentq(lambda q: _chance_all_within(q, comparisons, df) - (1 - alpha), low, high, xtol=1e-6))


def tukey_p(t: float, conditions: int, df: float) -> float:
    """Adjusted two-sided p of one of all pairs (Tukey 1953): the studentized range of sqrt(2) |t|."""
    return float(stats.studentized_range.sf(math.sqrt(2) * abs(t), conditions, df)) if math.isfinite(t) else 0.0


def tukey_critical(conditions: int, df: float, alpha: float = 0.05) -> float:
    """Two-sided critical t of all pairs of ``conditions``."""
    return float(stats.studentized_range.ppf(1 - alpha, conditions, df)) / math.sqrt(2)


def _chance_all_within(bound: float, comparisons: int, df: float) -> float:
    """P(max |T_i| < bound), T multivariate t with correlation 0.5.

    T_i = (Z_i + Z_0) / (sqrt(2) s) with independent normal Z and s^2 ~ chi2(df) / df. Given Z_0 = z and s the T_i are
    independent: the mean over z (Gauss-Hermite) and s (Gauss-Legendre over its quantiles) of
    [Phi(sqrt(2) bound s - z) - Phi(-sqrt(2) bound s - z)]^comparisons.
    """
    scale, weights = _scales(df)
    width = math.sqrt(2) * bound * scale[:, None]
    inside = stats.norm.cdf(width - INNER) - stats.norm.cdf(-width - INNER)
    over_z = (inside**comparisons) @ INNER_WEIGHTS / math.sqrt(2 * math.pi)
    return float((weights * over_z).sum())


@functools.cache
def _scales(df: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of the mean over s = sqrt(chi2(df) / df)."""
    return np.sqrt(stats.chi2.ppf((OUTER + 1) / 2, df) / df), OUTER_WEIGHTS / 2
