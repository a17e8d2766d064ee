"""Two conditions compared seed by seed: estimates, tests and what a study of this size can detect.

d[s] = y[variant, s] - y[baseline, s] for each seed s. Two runs of one seed share the data order and, where shapes
allow, the initial weights, so what a seed does to both cancels in d.

Legend: S = seeds, R = random draws.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gpt2lab.statistics.intervals import Array, Interval, t_quantile
from gpt2lab.statistics.multiple import bonferroni_critical, dunnett_critical

EXACT_SEEDS = 18
"""up to so many seeds the sign-flip test enumerates all 2^S sign patterns"""
MOST_SEEDS = 1000
"""a study that needs more is out of reach"""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class MeanDifference:
    """A mean difference, its standard error and degrees of freedom."""

    mean: float
    error: float
    df: float

    def interval(self, critical: float) -> Interval:
        """Mean +- critical x standard error."""
        return self.mean - critical * self.error, self.mean + critical * self.error

    @property
    def t(self) -> float:
        """Mean over standard error; infinite for equal, non-zero differences, 0 where all are 0."""
        if self.error == 0:
            return math.copysign(math.inf, self.mean) if self.mean else 0.0
        return self.mean / self.error

    @property
    def p(self) -> float:
        """Two-sided p of a mean of 0 (Student 1908)."""
        return float(2 * stats.t.sf(abs(self.t), self.df))


def paired_difference(d_S: Array) -> MeanDifference:
    """Mean of d, its error sd / sqrt(S), and S - 1 degrees of freedom; at least two seeds."""
    return MeanDifference(float(d_S.mean()), float(d_S.std(ddof=1) / math.sqrt(len(d_S))), len(d_S) - 1)


def welch_difference(y_S: Array, baseline_S: Array) -> MeanDifference:
    """Difference of the means of independent runs, whose spreads may differ (Welch 1947), at least two of each.

    error^2 = var(y) / S + var(b) / S', degrees of freedom by Satterthwaite (1946).
    """
    own, other = y_S.var(ddof=1) / len(y_S), baseline_S.var(ddof=1) / len(baseline_S)
    scale = own**2 / (len(y_S) - 1) + other**2 / (len(baseline_S) - 1)
    df = float((own + other) ** 2 / scale) if scale else float(len(y_S) + len(baseline_S) - 2)
    return MeanDifference(float(y_S.mean() - baseline_S.mean()), math.sqrt(own + other), df)


def pairing_correlation(y_S: Array, baseline_S: Array) -> float:
    """Pearson's r over seeds; NaN for fewer than three seeds or a constant."""
    if len(y_S) < 3 or not y_S.std() or not baseline_S.std():
        return math.nan
    return float(np.corrcoef(y_S, baseline_S)[0, 1])


def pairing_ratio(y_S: Array, baseline_S: Array) -> float:
    """sd(d) / (sqrt(2) x sd), sd pooled over both conditions: 1 without any gain from pairing, 0 for a perfect one."""
    pooled = math.sqrt((y_S.var(ddof=1) + baseline_S.var(ddof=1)) / 2)
    return float((y_S - baseline_S).std(ddof=1) / (math.sqrt(2) * pooled)) if pooled else math.nan


def sign_flip_test(d_S: Array) -> float:
    """Two-sided p of the sign-flip test on the mean (Fisher 1935, section 21).

    Without an effect d and -d are equally likely. p is the share of the 2^S sign patterns whose |mean| is at least the
    observed one, so it is never below ``smallest_sign_flip_p``. Above 18 seeds 200,000 random patterns stand for all.
    """
    seeds = len(d_S)
    if seeds <= EXACT_SEEDS:
        bits = (np.arange(2**seeds)[:, None] >> np.arange(seeds)) & 1
        means_R = np.abs((1 - 2 * bits) @ d_S)
        return float((means_R >= abs(d_S.sum()) * (1 - 1e-12)).mean())
    signs = np.random.default_rng(0).choice(np.array([-1.0, 1.0]), size=(200_000, seeds))
    return float((1 + (np.abs(signs @ d_S) >= abs(d_S.sum()) * (1 - 1e-12)).sum()) / 200_001)


def smallest_sign_flip_p(seeds: int) -> float:
    """2 / 2^S, the smallest two-sided p of a sign-flip or signed-rank test: 0.0625 with 5 seeds, 0.03125 with 6."""
    return 2.0 / 2**seeds if seeds else 1.0


def seeds_to_reach(comparisons: int, alpha: float = 0.05) -> int:
    """Fewest seeds with which signed ranks, adjusted by Holm or Bonferroni, can fall below ``alpha``: 6 for one."""
    return next(seeds for seeds in itertools.count(1) if comparisons * smallest_sign_flip_p(seeds) < alpha)


def signed_rank_test(d_S: Array) -> float:
    """Exact two-sided p of Wilcoxon's signed ranks (Wilcoxon 1945), ties by mid-ranks, zeros dropped.

    Differences may be infinite: a diverged variant beside a finished baseline is +inf, the worst rank; the reverse is
    -inf; both diverged is 0. The distribution of the rank sum is counted over all sign patterns by convolution.
    """
    nonzero = d_S[d_S != 0]
    if not len(nonzero):
        return 1.0
    doubled = _doubled_ranks(nonzero)
    counts = np.ones(1)
    for rank in doubled:
        shifted = np.concatenate([np.zeros(rank), counts])
        counts = np.concatenate([counts, np.zeros(rank)]) + shifted
    chances = counts / counts.sum()
    observed = int(doubled[nonzero > 0].sum())
    return float(min(1.0, 2 * min(chances[: observed + 1].sum(), chances[observed:].sum())))


def signed_rank_sum(d_S: Array) -> float:
    """Ranks of the positive differences less those of the negative ones: the direction of ``signed_rank_test``."""
    nonzero = d_S[d_S != 0]
    return float((np.sign(nonzero) * _doubled_ranks(nonzero)).sum() / 2)


def _doubled_ranks(nonzero: Array) -> NDArray[np.int_]:
    """Twice the ranks of the sizes, whole numbers with mid-ranks too."""
    return np.rint(2 * stats.rankdata(np.abs(nonzero))).astype(int)


def differences_with_divergence(y_S: Array, baseline_S: Array) -> Array:
    """y - baseline per seed, where a diverged run is NaN or infinite: worst, so +inf, -inf, or 0 where both are."""
    lost_S, baseline_lost_S = ~np.isfinite(y_S), ~np.isfinite(baseline_S)
    with np.errstate(invalid="ignore"):
        d_S = y_S - baseline_S
    d_S = np.where(lost_S & ~baseline_lost_S, np.inf, d_S)
    d_S = np.where(~lost_S & baseline_lost_S, -np.inf, d_S)
    return np.where(lost_S & baseline_lost_S, 0.0, d_S)


def tost(difference: MeanDifference, margin: float) -> float:
    """p of "the difference is at least ``margin`` in size", by two one-sided t tests (Schuirmann 1987).

    p < 0.05 is the same as a 90 % interval inside +- margin.
    """
    if difference.error == 0:
        return 0.0 if abs(difference.mean) < margin else 1.0
    return float(stats.t.sf((margin - abs(difference.mean)) / difference.error, difference.df))


def power(effect: float, error: float, df: float, critical: float) -> float:
    """Chance that |t| exceeds ``critical`` when the true difference is ``effect``: the noncentral t distribution."""
    if error == 0:
        return 1.0 if effect else 0.0
    scale = np.sqrt(stats.chi2.ppf((NODES + 1) / 2, df) / df)
    shift = effect / error
    beyond = stats.norm.sf(critical * scale - shift) + stats.norm.cdf(-critical * scale - shift)
    return float((WEIGHTS * beyond).sum() / 2)


def detectable_difference(error: float, df: float, critical: float | None = None, wanted_power: float = 0.80) -> float:
    """Smallest true difference that is found with this power; ``critical`` is t's two-sided 5 % point unless given.

    With paired seeds alone it is 3.26, 1.68, 1.27 and 1.00 x sd(d) for 3, 5, 7 and 10 seeds.
    """
    bound = critical or t_quantile(0.975, df)
    if error == 0:
        return 0.0
    high = bound * 1.5 + 2.0
    while power(high, 1.0, df, bound) < wanted_power:
        high *= 2
    return error * float(optimize.brentq(lambda shift: power(shift, 1.0, df, bound) - wanted_power, 0.0, high))


def pooled_critical(comparisons: int, seeds: int) -> tuple[float, float]:
    """Degrees of freedom and critical value of Dunnett's test, the residual pooled over all conditions."""
    df = comparisons * (seeds - 1)
    return df, dunnett_critical(comparisons, df)


def separate_critical(comparisons: int, seeds: int) -> tuple[float, float]:
    """Degrees of freedom and critical value of each paired t test by Bonferroni, the first step of Holm."""
    return seeds - 1, bonferroni_critical(comparisons, seeds - 1)


def seeds_needed(
    sd_d: float,
    margin: float,
    comparisons: int = 1,
    critical_of: Callable[[int, int], tuple[float, float]] = pooled_critical,
) -> int | None:
    """Fewest seeds whose detectable difference at 80 % power is at most ``margin``; None above ``MOST_SEEDS``.

    Args:
        sd_d: standard deviation of the paired differences.
        margin: true difference that is to be found.
        comparisons: variants that are compared with the baseline.
        critical_of: of comparisons and seeds, the degrees of freedom and the critical value of the test.
    """

    def enough(seeds: int) -> bool:
        df, critical = critical_of(comparisons, seeds)
        return detectable_difference(sd_d / math.sqrt(seeds), df, critical) <= margin

    low, high = 1, 2
    while not enough(high):
        low, high = high, high * 2
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high if high <= MOST_SEEDS else None


def fisher_exact(diverged: int, runs: int, baseline_diverged: int, baseline_runs: int) -> float:
    """Two-sided p of equal chances of divergence (Fisher 1935, section 21.02), two counts of runs."""
    table = [[diverged, runs - diverged], [baseline_diverged, baseline_runs - baseline_diverged]]
    return float(stats.fisher_exact(table).pvalue)
