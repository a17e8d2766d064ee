"""Intervals against the bootstrap, scipy and hand computation; coverage by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from gpt2lab.statistics.intervals import (
    bootstrap_interval,
    mean_error,
    mean_interval,
    ratio_difference_interval,
    ratio_interval,
    ratio_jackknife_interval,
    t_interval,
)


def test_ratio_interval_by_hand():
    # ratio 10 / 4; residuals 3 - 2.5 = 0.5 and 7 - 7.5 = -0.5; error sqrt(2 x (0.25 + 0.25)) / 4 = 1/4
    low, high = ratio_interval(np.array([3.0, 7.0]), np.array([1, 3]))
    assert (low, high) == pytest.approx((2.5 - 1.959964 / 4, 2.5 + 1.959964 / 4), rel=1e-6)
    assert ratio_interval(np.array([3.0]), np.array([1])) is None
    assert ratio_interval(np.array([3.0, 1.0]), np.array([0, 0])) is None


def test_ratio_interval_matches_bootstrap():
    rng = np.random.default_rng(0)
    units = rng.integers(20, 2000, 300)
    nll = units * rng.normal(3, 0.4, 300)
    drawn = rng.integers(0, 300, (4000, 300))
    bootstrap = np.quantile(nll[drawn].sum(1) / units[drawn].sum(1), [0.025, 0.975])
    low, high = ratio_interval(nll, units)
    assert (high - low) == pytest.approx(bootstrap[1] - bootstrap[0], rel=0.07)
    assert (low + high) / 2 == pytest.approx(nll.sum() / units.sum())


def test_mean_error_of_an_accuracy():
    values = np.array([1.0] * 30 + [0.0] * 70)
    assert mean_error(values) == pytest.approx(math.sqrt(0.3 * 0.7 / 99))  # p (1 - p) / (n - 1)
    assert mean_interval(values) == pytest.approx((0.3 - 1.96 * 0.046057, 0.3 + 1.96 * 0.046057), rel=1e-4)
    assert mean_error(np.array([1.0])) is mean_interval(np.array([1.0])) is None


def test_t_interval_is_that_of_scipy():
    values = np.random.default_rng(0).normal(3, 0.2, 5)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx((expected.low, expected.high))
    assert t_interval(values[:1]) is None


def test_jackknife_of_equal_documents_is_the_t_interval():
    values = np.random.default_rng(1).normal(3, 0.4, 12)
    assert ratio_jackknife_interval(values, np.ones(12, int)) == pytest.approx(t_interval(values))
    assert ratio_jackknife_interval(np.array([3.0, 0.0]), np.array([2, 0])) is None
    assert ratio_jackknife_interval(np.array([3.0]), np.array([2])) is None


def test_jackknife_covers_better_than_delta_method_on_few_uneven_documents():
    rng = np.random.default_rng(2)
    covered = {"delta": 0, "jackknife": 0}
    for _ in range(1500):
        units = np.round(rng.lognormal(6, 1.2, 12)).astype(int) + 1
        nll = units * (3 + rng.normal(0, 0.3, 12))
        for name, interval in (("delta", ratio_interval), ("jackknife", ratio_jackknife_interval)):
            low, high = interval(nll, units)
            covered[name] += low < 3 < high
    assert covered["delta"] / 1500 < 0.88
    assert 0.89 < covered["jackknife"] / 1500 < 0.97


def test_paired_ratio_difference_is_narrower_than_either_ratio():
    rng = np.random.default_rng(3)
    units = rng.integers(100, 1000, 29)
    hard = units * rng.normal(3, 0.5, 29)
    other = hard + units * rng.normal(0.05, 0.02, 29)
    low, high = ratio_difference_interval(other, hard, units)
    alone = ratio_jackknife_interval(hard, units)
    assert low < 0.05 < high
    assert high - low < (alone[1] - alone[0]) / 10


def test_bootstrap_interval_covers_a_mean():
    rng, covered = np.random.default_rng(4), 0
    for _ in range(200):
        values = rng.normal(1.0, 1.0, 40)
        low, high = bootstrap_interval(lambda chosen, values=values: float(values[chosen].mean()), 40, draws=400)
        covered += low < 1.0 < high
    assert 0.88 < covered / 200 <= 0.99
    assert bootstrap_interval(lambda chosen: math.nan, 10) is None
    assert bootstrap_interval(lambda chosen: 1.0, 1) is None
