"""Loss curves and effective speed-up against known curves."""

import math

import numpy as np
import pytest
from scipy import optimize

from gpt2lab.statistics.scaling import effective_speed_up, fit_loss_curve, fit_scaling

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


@pytest.mark.parametrize("seeds", [2, 3, 7])
def test_speed_up_of_a_variant_as_good_as_the_baseline_at_twice_the_tokens(seeds):
    rng, covered = np.random.default_rng(0), 0
    for number in range(120):
        baseline = {n: law(n) + rng.normal(0, 0.002, seeds) for n in LENGTHS}
        variant = law(4e6) + rng.normal(0, 0.002, seeds)
        found = effective_speed_up(baseline, variant, tokens=2e6, draws=100, seed=number)
        assert found.factor == pytest.approx(2, rel=0.05)
        covered += found.interval[0] <= 2 <= found.interval[1]
    assert 0.89 <= covered / 120 <= 0.99  # a bootstrap over the seeds themselves has 0.73 with two and 0.82 with three


@pytest.mark.parametrize("counts", [(3, 1, 3, 3, 3), (3, 3, 3, 3, 1), (1, 1, 1, 1, 5), (3, 3, 3)])
def test_speed_up_has_an_interval_from_three_lengths_with_two_seeds_each_and_two_of_the_variant(counts):
    rng, lengths = np.random.default_rng(0), LENGTHS[: len(counts) - 1]
    baseline = {n: law(n) + rng.normal(0, 0.001, count) for n, count in zip(lengths, counts, strict=False)}
    found = effective_speed_up(baseline, law(1.5e6) + rng.normal(0, 0.001, counts[-1]), 1e6)
    assert found.factor == pytest.approx(1.5, rel=0.1)
    assert found.interval is None


def test_speed_up_beyond_the_measured_lengths_is_not_extrapolated():
    baseline = {n: np.full(2, law(n)) for n in LENGTHS}
    assert effective_speed_up(baseline, np.array([1.9, 1.9]), 2e6).factor == math.inf
    assert effective_speed_up(baseline, np.array([9.0]), 2e6).factor == 0
    assert effective_speed_up({2e6: np.array([3.0])}, np.array([2.9]), 2e6) is None


SIZES = [1e5, 3e5, 1e6, 3e6, 1e7]


def by_size(size):
    return 1.5 + 40 * size**-0.25


def drawn(rng, truth, seeds=4, sd=0.005):
    return {size: truth(size) + rng.normal(0, sd, seeds) for size in SIZES}


def test_scaling_intervals_cover_and_a_true_law_fits():
    rng, covered, floors, refused = np.random.default_rng(1), 0, 0, 0
    for _ in range(200):
        fit = fit_scaling(drawn(rng, by_size), draws=300, seed=int(rng.integers(2**31)))
        covered += fit.exponent_interval[0] <= 0.25 <= fit.exponent_interval[1]
        floors += fit.floor_interval[0] <= 1.5 <= fit.floor_interval[1]
        refused += fit.lack_of_fit_p < 0.05
    assert covered / 200 == pytest.approx(0.95, abs=0.04)
    assert floors / 200 == pytest.approx(0.95, abs=0.04)
    assert refused / 200 == pytest.approx(0.05, abs=0.05)


def test_a_law_that_bends_is_shown_as_a_bad_fit():
    def broken(size):  # no gain beyond 1e6 parameters, as when data runs out
        return by_size(min(size, 1e6))

    fit = fit_scaling(drawn(np.random.default_rng(2), broken))
    assert fit.lack_of_fit_p < 0.001
    assert fit.largest_error > 5 * fit.noise


@pytest.mark.parametrize("exponent", [0.015, 0.3, 2.0, 4.0])
def test_exponents_far_from_the_usual_are_those_of_scipy(exponent):
    sizes = np.array([2e5, 4e5, 8e5, 16e5])
    losses = 3 + 0.5 * (sizes / sizes[0]) ** -exponent + np.array([0.001, -0.001, 0.0005, 0.0])
    curve = fit_loss_curve(dict(zip(sizes, losses, strict=True)))
    starts = [(floor, 3.5 - floor, e) for floor in (0.1, 1.5, 3.0) for e in (0.02, 0.3, 1.0, 4.0)]
    fits = [
        optimize.least_squares(
            lambda p: p[0] + p[1] * (sizes / sizes[0]) ** -p[2] - losses, start, bounds=([0, 0, 0], [10, 10, 20]),
            xtol=1e-14, ftol=1e-14,
        )
        for start in starts
    ]  # fmt: skip
    best = min(fits, key=lambda fit: fit.cost)
    assert ((losses - [curve.loss(n) for n in sizes]) ** 2).sum() <= 2 * best.cost * 1.001
    assert curve.exponent == pytest.approx(best.x[2], rel=0.02)


def test_three_sizes_that_level_off_are_passed_through():
    losses = {2e5: np.array([3.497, 3.503]), 8e5: np.array([3.197, 3.203]), 3.2e6: np.array([3.187, 3.193])}
    fit = fit_scaling(losses)
    assert fit.curve.exponent == pytest.approx(math.log(0.30 / 0.01) / math.log(4), rel=1e-3)  # 2.453, by hand
    assert fit.largest_error < 1e-4


def test_exponent_at_a_bound_is_marked():
    assert not fit_scaling(drawn(np.random.default_rng(5), by_size)).is_at_bound
    step = {2e5: np.array([3.49, 3.51]), 8e5: np.array([3.19, 3.21]), 3.2e6: np.array([3.19, 3.21])}
    assert fit_scaling(step).is_at_bound


def test_scaling_needs_three_sizes_two_seeds_and_a_falling_loss():
    two = {1e5: np.array([3.0, 3.1]), 1e6: np.array([2.0, 2.1])}
    assert fit_scaling(two) is None
    assert fit_scaling({size: np.array([by_size(size)]) for size in SIZES}) is None
    assert fit_scaling({size: np.array([3.0, 3.1]) + size * 1e-8 for size in SIZES}) is None
    assert fit_scaling(two | {1e7: np.array([1.8, 1.9])}).lack_of_fit_p is None
