"""Power laws of the loss: effective speed-up, and the loss by size of the model.

**Effective speed-up**: how much longer the baseline trains to reach a variant's loss. L(N) of the baseline is fitted to
runs that finished their schedule at several lengths N. Points along one run are not used: before its schedule ends a
run has not yet decayed its learning rate.

**Scaling**: L(N) over the parameters N of models that had equally many tokens for each parameter, with intervals, and a
test of whether the measured means deviate from the curve by more than noise.

Legend: L = lengths or sizes, E = exponents that are tried, D = drawn sets of losses.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from gpt2lab.statistics.intervals import Array, Interval

LOWEST_EXPONENT, HIGHEST_EXPONENT = 0.005, 8.0
"""bounds of the search; a least-squares exponent beyond them ends at one"""
EXPONENTS = np.geomspace(LOWEST_EXPONENT, HIGHEST_EXPONENT, 200)
AT_BOUND = 1.001
"""exponents within this factor of a bound lie at it"""
REFINEMENTS = 3
"""of the grid of exponents, each to a tenth of its step: to 0.004 % of the exponent"""


@dataclass(frozen=True)
class LossCurve:
    """L(N) = floor + scale x N^-exponent, within the measured range of N."""

    floor: float
    scale: float
    exponent: float
    shortest: float
    longest: float

    def loss(self, tokens: float) -> float:
        """The loss after a run of so many tokens."""
        return self.floor + self.scale * tokens**-self.exponent

    def tokens(self, loss: float) -> float:
        """The run length that reaches this loss; 0 below the shortest measured length, infinite above the longest."""
        if loss < self.loss(self.longest):
            return math.inf
        if loss > self.loss(self.shortest):
            return 0.0
        return float(((loss - self.floor) / self.scale) ** (-1 / self.exponent))


def fit_loss_curve(losses: Mapping[float, float]) -> LossCurve | None:
    """Fit L(N) to the mean final loss by run length; None for fewer than two lengths or a loss that does not fall.

    Three and more lengths: floor, scale and exponent by least squares, with floor >= 0 (Hoffmann et al. 2022 use the
    same form). Two lengths: floor 0, a straight line in log loss over log tokens through both.
    """
    lengths = np.array(sorted(losses))
    values = np.array([losses[n] for n in lengths])
    if len(lengths) < 2 or values[-1] >= values[0]:
        return None
    if len(lengths) == 2:
        exponent = math.log(values[0] / values[1]) / math.log(lengths[1] / lengths[0])
        return LossCurve(0.0, float(values[0] * lengths[0] ** exponent), exponent, float(lengths[0]), float(lengths[1]))
    fit = _fit_powers(lengths / lengths[0], values[:, None])
    exponent = float(fit.exponent_D[0])
    scale = float(fit.scale_D[0]) * float(lengths[0]) ** exponent
    return LossCurve(float(fit.floor_D[0]), scale, exponent, float(lengths[0]), float(lengths[-1]))


class _Powers(NamedTuple):
    """floor + scale x ratio^-exponent for each of D sets of losses."""

    floor_D: Array
    scale_D: Array
    exponent_D: Array


def _fit_powers(ratios_L: Array, values_LD: Array) -> _Powers:
    """Least squares with floor >= 0 and scale > 0: a grid of exponents, then finer ones around the best."""
    fit = _best_exponents(ratios_L, values_LD, np.repeat(EXPONENTS[:, None], values_LD.shape[1], axis=1))
    step = math.log(EXPONENTS[1] / EXPONENTS[0])
    for _ in range(REFINEMENTS):
        around_E = np.exp(np.linspace(-step, step, 21))
        near_ED = np.clip(fit.exponent_D * around_E[:, None], LOWEST_EXPONENT, HIGHEST_EXPONENT)
        fit, step = _best_exponents(ratios_L, values_LD, near_ED), step / 10
    return fit


def _best_exponents(ratios_L: Array, values_LD: Array, exponents_ED: Array) -> _Powers:
    """The best of the given exponents, each with the floor and the scale that fit best."""
    powers_ELD = ratios_L[:, None] ** -exponents_ED[:, None, :]
    centered_ELD = powers_ELD - powers_ELD.mean(axis=1, keepdims=True)
    scale_ED = (centered_ELD * values_LD).sum(axis=1) / (centered_ELD**2).sum(axis=1)
    floor_ED = values_LD.mean(axis=0) - scale_ED * powers_ELD.mean(axis=1)
    through_zero_ED = (powers_ELD * values_LD).sum(axis=1) / (powers_ELD**2).sum(axis=1)
    scale_ED, floor_ED = np.where(floor_ED < 0, through_zero_ED, scale_ED), np.maximum(floor_ED, 0.0)
    errors_ED = ((floor_ED[:, None] + scale_ED[:, None] * powers_ELD - values_LD) ** 2).sum(axis=1)
    best_D = np.where(scale_ED > 0, errors_ED, np.inf).argmin(axis=0)
    draws_D = np.arange(values_LD.shape[1])
    return _Powers(floor_ED[best_D, draws_D], scale_ED[best_D, draws_D], exponents_ED[best_D, draws_D])


@dataclass(frozen=True)
class SpeedUp:
    """Baseline tokens over the variant's tokens at equal loss; 0: below the shortest measured length, infinite: above
    the longest."""

    factor: float
    interval: Interval | None
    tokens: float
    """the variant's"""


def effective_speed_up(
    baseline: Mapping[float, Array], variant_S: Array, tokens: float, draws: int = 400, seed: int = 0
) -> SpeedUp | None:
    """Tokens the baseline needs for the variant's mean loss, over the variant's tokens.

    The interval is a parametric bootstrap, as in ``fit_scaling``: normal noise on the baseline's curve at each length
    and on the variant's mean, with the variance pooled over lengths and variant and drawn from its chi-squared
    distribution. It needs two seeds at every length and of the variant, and three lengths: a line through two is not
    the curve, so an interval around it would not hold the truth.

    Args:
        baseline: final losses over seeds by run length in tokens.
        variant_S: the variant's final losses at ``tokens``.

    Returns:
        None where the baseline's loss does not fall from the shortest to the longest of at least two lengths.
    """
    curve = fit_loss_curve({n: float(values.mean()) for n, values in baseline.items()})
    if curve is None:
        return None
    factor = curve.tokens(float(variant_S.mean())) / tokens
    lengths = sorted(baseline)
    samples = [*(baseline[n] for n in lengths), variant_S]
    if len(lengths) < 3 or min(len(sample) for sample in samples) < 2:
        return SpeedUp(factor, None, tokens)
    spread_D, rng = _spread(samples, draws, seed)
    counts = np.array([len(sample) for sample in samples])
    centers = np.array([*(curve.loss(n) for n in lengths), variant_S.mean()])
    means_LD = centers[:, None] + rng.normal(size=(len(samples), draws)) * spread_D / np.sqrt(counts)[:, None]
    fit = _fit_powers(np.array(lengths) / lengths[0], means_LD[:-1])
    drawn = []
    for d in np.flatnonzero(means_LD[-2] < means_LD[0]):  # where the drawn losses fall
        exponent = float(fit.exponent_D[d])
        scale = float(fit.scale_D[d]) * lengths[0] ** exponent
        again = LossCurve(float(fit.floor_D[d]), scale, exponent, lengths[0], lengths[-1])
        drawn.append(again.tokens(float(means_LD[-1, d])) / tokens)
    if len(drawn) < draws / 2:
        return SpeedUp(factor, None, tokens)
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return SpeedUp(factor, (float(low), float(high)), tokens)


def _spread(samples: Sequence[Array], draws: int, seed: int) -> tuple[Array, np.random.Generator]:
    """Standard deviations drawn around that over seeds, pooled over the samples, and the generator in use."""
    within = sum(len(sample) - 1 for sample in samples)
    rng = np.random.default_rng(seed)
    return np.sqrt(_pooled_variance(samples) * within / rng.chisquare(within, draws)), rng


def _pooled_variance(samples: Sequence[Array]) -> float:
    """Variance over seeds within the samples."""
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples)
    return squares / sum(len(sample) - 1 for sample in samples)


@dataclass(frozen=True)
class ScalingFit:
    """A power law of the loss over sizes, and how far to trust it."""

    curve: LossCurve
    exponent_interval: Interval
    floor_interval: Interval
    """both 95 %"""
    largest_error: float
    """between a size's mean loss and the curve"""
    noise: float
    """standard error of a size's mean, pooled over sizes"""
    lack_of_fit_p: float | None
    """of the means' deviations from the curve against the spread over seeds; None: fewer than four sizes, which leave
    nothing free to test, or no spread"""

    @property
    def is_at_bound(self) -> bool:
        """Whether the exponent or an end of its interval is at a bound of the search, so that it is not determined."""
        found = (self.curve.exponent, *self.exponent_interval)
        return min(found) <= LOWEST_EXPONENT * AT_BOUND or max(found) >= HIGHEST_EXPONENT / AT_BOUND


def fit_scaling(losses: Mapping[float, Array], draws: int = 1000, seed: int = 0) -> ScalingFit | None:
    """Fit floor + scale x N^-exponent to final losses by size.

    The intervals are a parametric bootstrap: normal noise on the mean of each size around the curve, with the pooled
    variance over seeds drawn from its chi-squared distribution. Lack of fit is the F test of the means' squared
    deviations from the curve against the variance within sizes (Draper and Smith 1998, section 2.1).

    Args:
        losses: final losses over seeds, by parameters.

    Returns:
        None for fewer than three sizes, a mean loss that does not fall from the smallest to the largest, or no size
        with two seeds.
    """
    curve = fit_loss_curve({size: float(values.mean()) for size, values in losses.items()})
    within = sum(len(values) - 1 for values in losses.values())
    if curve is None or len(losses) < 3 or within < 1:
        return None
    sizes = sorted(losses)
    counts = np.array([len(losses[size]) for size in sizes])
    means = np.array([losses[size].mean() for size in sizes])
    fitted = np.array([curve.loss(size) for size in sizes])
    samples = [losses[size] for size in sizes]
    variance = _pooled_variance(samples)
    spread_D, rng = _spread(samples, draws, seed)
    noise_LD = rng.normal(size=(len(sizes), draws)) * spread_D / np.sqrt(counts)[:, None]
    drawn = _fit_powers(np.array(sizes) / sizes[0], fitted[:, None] + noise_LD)
    free = len(sizes) - 3
    p = None
    if free > 0 and variance > 0:
        ratio = float((counts * (means - fitted) ** 2).sum()) / free / variance
        p = float(stats.f.sf(ratio, free, within))
    return ScalingFit(
        curve=curve,
        exponent_interval=_middle(drawn.exponent_D),
        floor_interval=_middle(drawn.floor_D),
        largest_error=float(np.abs(means - fitted).max()),
        noise=math.sqrt(variance / float(counts.mean())),
        lack_of_fit_p=p,
    )


def _middle(drawn: Array) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
