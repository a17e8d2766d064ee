"""The block design against two-way analysis of variance; family-wise error and power by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from gpt2lab.statistics.blocks import are_homogeneous, factorial_effects, fit_blocks, spread_bound
from gpt2lab.statistics.multiple import dunnett_critical, holm, tukey_critical
from gpt2lab.statistics.paired import detectable_difference, paired_difference


def simulate(studies, conditions, seeds, effect=0.0, seed=0):
    """Studies [studies, C, S] with a seed effect five times the residual of 0.01; the last condition has the effect."""
    rng = np.random.default_rng(seed)
    y = 3 + rng.normal(0, 0.05, (studies, 1, seeds)) + rng.normal(0, 0.01, (studies, conditions, seeds))
    y[:, -1] += effect
    return y


def t_against_baseline(y):
    """Block-model t of each variant, vectorised over studies and computed apart from the package."""
    conditions, seeds = y.shape[1:]
    residual = y - y.mean(2, keepdims=True) - y.mean(1, keepdims=True) + y.mean((1, 2), keepdims=True)
    variance = (residual**2).sum((1, 2)) / ((conditions - 1) * (seeds - 1))
    return (y[:, 1:] - y[:, :1]).mean(2) / np.sqrt(2 * variance / seeds)[:, None]


def test_two_conditions_are_the_paired_t_test():
    y = simulate(1, 2, 6)[0]
    pooled, own = fit_blocks(y).difference(y[1], y[0]), paired_difference(y[1] - y[0])
    assert (pooled.mean, pooled.error, pooled.df) == pytest.approx((own.mean, own.error, own.df))


def test_residual_is_that_of_least_squares():
    y = simulate(1, 4, 5)[0]
    design = np.zeros((20, 9))
    for c in range(4):
        for s in range(5):
            design[c * 5 + s, [c, 4 + s]] = 1
    solution = np.linalg.lstsq(design, y.reshape(-1), rcond=None)[0]
    squares = ((y.reshape(-1) - design @ solution) ** 2).sum()
    model = fit_blocks(y)
    assert (model.residual_sd, model.df) == pytest.approx((math.sqrt(squares / 12), 12))
    assert t_against_baseline(y[None])[0] == pytest.approx([model.difference(y[c], y[0]).t for c in (1, 2, 3)])


def test_dunnett_on_blocks_keeps_the_family_wise_rate_without_effect():
    t = t_against_baseline(simulate(40_000, 4, 5))
    critical = dunnett_critical(3, 12)
    assert (np.abs(t) > critical).any(axis=1).mean() == pytest.approx(0.05, abs=0.004)
    assert (np.abs(t) > stats.t.ppf(0.975, 12)).any(axis=1).mean() > 0.10  # what no correction would do


def test_intervals_of_dunnett_hold_together():
    y = simulate(20_000, 4, 5, effect=0.02)
    t = t_against_baseline(y - np.array([0, 0, 0, 0.02])[:, None])
    assert (np.abs(t) < dunnett_critical(3, 12)).all(axis=1).mean() == pytest.approx(0.95, abs=0.005)


def test_dunnett_on_blocks_has_the_stated_power():
    critical = dunnett_critical(3, 12)
    effect = detectable_difference(0.01 * math.sqrt(2 / 5), 12, critical)
    t = t_against_baseline(simulate(40_000, 4, 5, effect=effect))
    assert (np.abs(t[:, -1]) > critical).mean() == pytest.approx(0.80, abs=0.01)


def test_holm_over_paired_t_keeps_the_family_wise_rate_with_unequal_noise():
    rng = np.random.default_rng(4)
    noise = np.array([0.01, 0.01, 0.05, 0.2])[:, None]
    y = rng.normal(0, 1, (4000, 4, 5)) * noise
    d = y[:, 1:] - y[:, :1]
    p = stats.ttest_1samp(d, 0, axis=2).pvalue
    assert not are_homogeneous(y[0])
    assert np.mean([min(holm(list(row))) < 0.05 for row in p]) <= 0.057


@pytest.mark.parametrize("seeds", [3, 4, 5, 8])
def test_choosing_the_test_by_the_spreads_keeps_the_family_wise_rate(seeds):
    y = simulate(20_000, 4, seeds, seed=6)
    d = y[:, 1:] - y[:, :1]
    sd = d.std(axis=2, ddof=1)
    ratio = sd.max(axis=1) / sd.min(axis=1)
    dunnett = (np.abs(t_against_baseline(y)) > dunnett_critical(3, 3 * (seeds - 1))).any(axis=1)
    holm_rejects = stats.ttest_1samp(d, 0, axis=2).pvalue.min(axis=1) * 3 < 0.05
    assert np.where(ratio < spread_bound(3, seeds), dunnett, holm_rejects).mean() < 0.06
    assert [are_homogeneous(study) for study in y[:200]] == list(ratio[:200] < spread_bound(3, seeds))


def test_tukey_on_blocks_keeps_the_family_wise_rate():
    y = simulate(20_000, 3, 5, seed=5)
    residual = y - y.mean(2, keepdims=True) - y.mean(1, keepdims=True) + y.mean((1, 2), keepdims=True)
    error = np.sqrt((residual**2).sum((1, 2)) / 8 * 2 / 5)
    means = y.mean(2)
    widest = (means.max(1) - means.min(1)) / error
    assert (widest > tukey_critical(3, 8)).mean() == pytest.approx(0.05, abs=0.006)


def test_factorial_effects_by_hand():
    cells = np.array([[3.0, 2.9], [2.8, 2.5]])  # effect of A: -0.3 on average; of B: -0.2; A with B gains another -0.2
    y = cells[..., None] + np.random.default_rng(0).normal(0, 1e-6, (2, 2, 4)) + np.arange(4) * 0.01
    a, b, ab = factorial_effects(y)
    assert (a.factors, b.factors, ab.factors) == ((0,), (1,), (0, 1))
    assert [e.difference.mean for e in (a, b, ab)] == pytest.approx([-0.3, -0.2, -0.2], abs=1e-5)


def test_factorial_effects_of_three_factors_are_those_of_a_regression():
    rng = np.random.default_rng(1)
    y = rng.normal(3, 0.1, (2, 2, 2, 3))
    rows, values = [], []
    for (a, b, c, s), value in np.ndenumerate(y):
        signs = [a - 0.5, b - 0.5, c - 0.5]
        terms = [
            *signs,
            *(4 * signs[i] * signs[j] / 2 for i, j in ((0, 1), (0, 2), (1, 2))),
            signs[0] * signs[1] * signs[2],
        ]
        rows.append([*terms, *np.eye(3)[s]])
        values.append(value)
    slopes = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    effects = factorial_effects(y)
    assert [e.difference.mean for e in effects[:3]] == pytest.approx(slopes[:3])
    assert [e.difference.mean for e in effects[3:6]] == pytest.approx(2 * slopes[3:6])


def test_levels_are_compared_with_the_first():
    effects = factorial_effects(np.random.default_rng(2).normal(size=(3, 2, 4)))
    assert [(e.factors, e.levels) for e in effects] == [
        ((0,), (1,)), ((0,), (2,)), ((1,), (1,)), ((0, 1), (1, 1)), ((0, 1), (2, 1)),
    ]  # fmt: skip
