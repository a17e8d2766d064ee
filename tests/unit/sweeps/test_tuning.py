"""The value that tuning chooses."""

import math

import numpy as np
import pytest

from gpt2lab.sweeps.tuning import choose_value


def curve(values, optimum, *, slope=0.2):
    return {value: [3 + slope * math.log(value / optimum) ** 2 + noise for noise in (-0.01, 0.01)] for value in values}


def test_choose_value_finds_the_minimum_of_a_parabola_between_the_values():
    tuned = choose_value(curve([1e-3, 2e-3, 4e-3, 8e-3, 16e-3], optimum=5e-3))
    assert tuned.best == pytest.approx(5e-3, rel=1e-3)
    assert not tuned.at_edge
    # numpy's own fit of all points of an exact parabola has the same vertex
    x, y = np.log(tuned.values), tuned.mean_losses
    a, b, _ = np.polyfit(x, y, 2)
    assert math.exp(-b / (2 * a)) == pytest.approx(tuned.best, rel=1e-2)


@pytest.mark.parametrize(("optimum", "edge"), [(1e-4, 1e-3), (1.0, 16e-3)])
def test_choose_value_marks_an_optimum_at_the_edge(optimum, edge):
    tuned = choose_value(curve([1e-3, 4e-3, 16e-3], optimum=optimum))
    assert (tuned.best, tuned.at_edge) == (edge, True)


def test_choose_value_lies_between_the_neighbors_of_the_lowest_mean():
    tuned = choose_value({1e-3: [3.40], 2e-3: [3.30], 4e-3: [3.25], 8e-3: [3.28], 16e-3: [5.5]})
    # the parabola through (2, 3.30), (4, 3.25), (8, 3.28): 4 * 2 ^ ((0.05 - 0.03) / (2 * 0.08))
    assert tuned.best == pytest.approx(4e-3 * 2 ** (0.02 / 0.16), rel=2e-3)


def test_choose_value_keeps_a_value_at_the_edge_as_it_is():
    assert choose_value({1024: [3.0], 2048: [3.1], 4096: [3.2]}).best == 1024
    assert choose_value({0.0012345: [3.0], 0.01: [3.1], 0.1: [3.2]}).best == 0.0012345


def test_choose_value_of_whole_numbers_is_whole():
    assert choose_value({2: [3.1], 5: [3.0], 11: [3.11]}).best == 5
    assert choose_value({1000: [3.1], 2000: [3.0], 4000: [3.01]}).best == round(2000 * 2 ** (0.09 / 0.22))


def test_choose_value_looks_for_the_edge_among_the_values_that_did_not_diverge():
    tuned = choose_value({1e-3: [3.4], 2e-3: [3.3], 4e-3: [3.2], 8e-3: [3.1, None]})
    assert (tuned.best, tuned.at_edge) == (4e-3, True)


def test_choose_value_of_equal_means_is_the_first():
    assert choose_value({1e-3: [3.0], 2e-3: [3.0], 4e-3: [3.0]}).best == 1e-3


def test_choose_value_leaves_out_values_with_a_diverged_run():
    losses = curve([1e-3, 2e-3, 4e-3, 8e-3], optimum=2e-3) | {16e-3: [1.0, None], 32e-3: [float("nan"), 0.1]}
    tuned = choose_value(losses)
    assert tuned.best == pytest.approx(2e-3, rel=1e-2)
    assert tuned.mean_losses[-2:] == [None, None]


def test_choose_value_needs_a_value_that_every_seed_finished():
    with pytest.raises(ValueError, match="no value was trained to the end"):
        choose_value({1e-3: [None], 2e-3: [float("inf")], 3e-3: [None]})
