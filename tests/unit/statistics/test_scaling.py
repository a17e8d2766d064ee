"""Loss curves and effective speed-up against known curves."""

import math

import numpy as np
import pytest

from gpt2lab.statistics.scaling import effective_speed_up, fit_loss_curve

LENGTHS = [1e6, 2e6, 4e6, 8e6]


def law(tokens):
    return 2.0 + 60 * tokens**-0.3


def test_curve_of_a_power_law_is_found():
    curve = fit_loss_curve({n: law(n) for n in LENGTHS})
    assert (curve.floor, curve.exponent) == pytest.approx((2.0, 0.3), rel=0.02)
    assert curve.tokens(law(3e6)) == pytest.approx(3e6, rel=1e-3)


def test_two_lengths_are_a_line_in_logarithms():
    curve = fit_loss_curve({1e6: 4.0, 4e6: 2.0})
    assert curve.loss(2e6) == pytest.approx(4 / math.sqrt(2))
    assert fit_loss_curve({1e6: 4.0}) is fit_loss_curve({1e6: 2.0, 4e6: 4.0}) is None


def test_speed_up_of_a_variant_as_good_as_the_baseline_at_twice_the_tokens():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(60):
        baseline = {n: law(n) + rng.normal(0, 0.002, 7) for n in LENGTHS}
        found = effective_speed_up(baseline, law(4e6) + rng.normal(0, 0.002, 7), tokens=2e6, draws=100)
        assert found.factor == pytest.approx(2, rel=0.05)
        covered += found.interval[0] < 2 < found.interval[1]
    assert covered / 60 > 0.8  # a percentile bootstrap over 7 seeds falls somewhat short of 95 %


def test_speed_up_beyond_the_measured_lengths_is_not_extrapolated():
    baseline = {n: np.full(2, law(n)) for n in LENGTHS}
    assert effective_speed_up(baseline, np.array([1.9, 1.9]), 2e6).factor == math.inf
    assert effective_speed_up(baseline, np.array([9.0]), 2e6).factor == 0
    assert effective_speed_up({2e6: np.array([3.0])}, np.array([2.9]), 2e6) is None
