"""Effective speed-up: how much longer the baseline trains to reach a variant's loss.

L(N) of the baseline is fitted to runs that finished their schedule at several lengths N. Points along one run are not
used: before its schedule ends a run has not yet decayed its learning rate.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpt2lab.statistics.intervals import Array, Interval

EXPONENTS = np.linspace(0.02, 1.5, 297)


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
        """The run length that reaches this loss; 0 or infinite beyond the measured lengths."""
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
    powers_EL = (lengths / lengths[0]) ** -EXPONENTS[:, None]
    centred_EL = powers_EL - powers_EL.mean(axis=1, keepdims=True)
    scale_E = centred_EL @ values / (centred_EL**2).sum(axis=1)
    floor_E = values.mean() - scale_E * powers_EL.mean(axis=1)
    through_zero_E = powers_EL @ values / (powers_EL**2).sum(axis=1)
    scale_E, floor_E = np.where(floor_E < 0, through_zero_E, scale_E), np.maximum(floor_E, 0.0)
    errors_E = ((floor_E[:, None] + scale_E[:, None] * powers_EL - values) ** 2).sum(axis=1)
    best = int(np.where(scale_E > 0, errors_E, np.inf).argmin())
    exponent = float(EXPONENTS[best])
    scale = float(scale_E[best] * lengths[0] ** exponent)
    return LossCurve(float(floor_E[best]), scale, exponent, float(lengths[0]), float(lengths[-1]))


@dataclass(frozen=True)
class SpeedUp:
    """Baseline tokens over the variant's tokens at equal loss; 0 or infinite: beyond the measured lengths."""

    factor: float
    interval: Interval | None


def effective_speed_up(
    baseline: Mapping[float, Array], variant_S: Array, tokens: float, draws: int = 400, seed: int = 0
) -> SpeedUp | None:
    """Tokens the baseline needs for the variant's mean loss, over the variant's tokens.

    Args:
        baseline: final losses over seeds by run length in tokens.
        variant_S: the variant's final losses at ``tokens``.

    The interval is a percentile bootstrap over seeds, of the baseline at each length and of the variant. With one seed
    there is none.
    """
    curve = fit_loss_curve({n: float(values.mean()) for n, values in baseline.items()})
    if curve is None:
        return None
    factor = curve.tokens(float(variant_S.mean())) / tokens
    if len(variant_S) < 2:
        return SpeedUp(factor, None)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        again = fit_loss_curve({n: float(rng.choice(v, len(v)).mean()) for n, v in baseline.items()})
        if again is not None:
            drawn.append(again.tokens(float(rng.choice(variant_S, len(variant_S)).mean())) / tokens)
    if len(drawn) < draws / 2:
        return SpeedUp(factor, None)
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return SpeedUp(factor, (float(low), float(high)))
