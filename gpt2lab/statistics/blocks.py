"""A complete grid of conditions x seeds as a block design: y[c, s] = mean + condition[c] + seed[s] + residual[c, s].

The seed is the block. In a complete grid the residual pools what all conditions say about the noise, with
(C - 1)(S - 1) degrees of freedom in place of S - 1 (Fisher 1935; Montgomery, Design and Analysis of Experiments,
chapter 4).

Legend: C = conditions, S = seeds, K = contrasts.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2lab.statistics.intervals import Array
from gpt2lab.statistics.paired import MeanDifference, paired_difference

HOMOGENEOUS = 3.0
"""the sd of paired differences may differ by less than this factor, or by what chance allows, to be pooled"""


@dataclass(frozen=True)
class BlockModel:
    """The additive model fitted to a complete grid."""

    residual_sd: float
    df: int
    seeds: int

    def difference(self, y_S: Array, baseline_S: Array) -> MeanDifference:
        """Mean difference of two of the conditions; its error is residual_sd x sqrt(2 / S)."""
        error = self.residual_sd * math.sqrt(2 / self.seeds)
        return MeanDifference(float((y_S - baseline_S).mean()), error, self.df)

    def contrast(self, weights_C: Array, y_CS: Array) -> MeanDifference:
        """Weighted sum of the conditions' means, the weights summing to 0."""
        error = self.residual_sd * math.sqrt(float((weights_C**2).sum()) / self.seeds)
        return MeanDifference(float(weights_C @ y_CS.mean(axis=1)), error, self.df)


def fit_blocks(y_CS: Array) -> BlockModel:
    """Least squares of the additive model on a complete grid of at least two conditions and two seeds."""
    conditions, seeds = y_CS.shape
    residual_CS = y_CS - y_CS.mean(axis=1, keepdims=True) - y_CS.mean(axis=0, keepdims=True) + y_CS.mean()
    df = (conditions - 1) * (seeds - 1)
    return BlockModel(math.sqrt(float((residual_CS**2).sum()) / df), df, seeds)


def are_homogeneous(y_CS: Array) -> bool:
    """Whether the standard deviations of the paired differences to row 0 differ less than ``spread_bound``."""
    spreads = [float(d_S.std(ddof=1)) for d_S in y_CS[1:] - y_CS[0]]
    bound = spread_bound(len(spreads), y_CS.shape[1])
    return max(spreads) < bound * min(spreads) or max(spreads) == 0


@functools.cache
def spread_bound(differences: int, seeds: int) -> float:
    """Largest over smallest standard deviation that counts as unequal: 3, or chance's 99 % point if larger.

    With few seeds equal noise gives a ratio above 3 by chance (in 8 % of studies of three variants and 5 seeds), namely
    where one sample deviation comes out small. To change to separate t tests then would select the studies whose t is
    large, and raise the family-wise rate from 5 to 7 %. The 99 % point is simulated with equal noise and a shared
    baseline.
    """
    if differences < 2 or seeds < 2:
        return HOMOGENEOUS
    noise = np.random.default_rng(0).normal(size=(4000, differences + 1, seeds))
    sd = (noise[:, 1:] - noise[:, :1]).std(axis=2, ddof=1)
    return max(HOMOGENEOUS, float(np.quantile(sd.max(axis=1) / sd.min(axis=1), 0.99)))


@dataclass(frozen=True)
class Effect:
    """A main effect or interaction of named factors."""

    factors: tuple[int, ...]
    """the axes of the grid that it is about: one for a main effect, two or more for an interaction"""
    levels: tuple[int, ...]
    """the level of each of them that is compared with level 0"""
    difference: MeanDifference
    p: float
    """not adjusted"""


def factorial_effects(y_grid: Array) -> list[Effect]:
    """Main effects and interactions of a complete grid [levels of factor 1, levels of factor 2, ..., S].

    A main effect is the mean difference to level 0, averaged over all cells of the other factors. An interaction of two
    factors is how much the effect of one changes when the other leaves level 0: (y11 - y01) - (y10 - y00), averaged
    over the rest. All 2^n cells serve each effect.
    The error pools the residual of the block model where the contrasts' own spreads differ less than
    ``spread_bound``, else it is the contrast's own over seeds.
    """
    shape, seeds = y_grid.shape[:-1], y_grid.shape[-1]
    y_CS = y_grid.reshape(-1, seeds)
    found: list[tuple[tuple[int, ...], tuple[int, ...], Array]] = []
    for size in (1, 2):
        for factors in itertools.combinations(range(len(shape)), size):
            for levels in itertools.product(*(range(1, shape[f]) for f in factors)):
                found.append((factors, levels, _contrast(shape, factors, levels)))
    own = [paired_difference(weights @ y_CS) for _, _, weights in found]
    scaled = [o.error / math.sqrt(float((w**2).sum())) for o, (_, _, w) in zip(own, found, strict=True)]
    model = fit_blocks(y_CS)
    pooled = max(scaled) < spread_bound(len(found), seeds) * min(scaled)
    differences = [model.contrast(w, y_CS) if pooled else o for o, (_, _, w) in zip(own, found, strict=True)]
    return [Effect(f, levels, d, d.p) for (f, levels, _), d in zip(found, differences, strict=True)]


def _contrast(shape: Sequence[int], factors: tuple[int, ...], levels: tuple[int, ...]) -> Array:
    """Weights of the cells, flattened: +1 and -1 on the factors' levels, the mean over the other factors."""
    weights = np.ones(())
    for axis, size in enumerate(shape):
        if axis in factors:
            part = np.zeros(size)
            part[levels[factors.index(axis)]], part[0] = 1.0, -1.0
        else:
            part = np.full(size, 1 / size)
        weights = np.multiply.outer(weights, part)
    return weights.reshape(-1)
