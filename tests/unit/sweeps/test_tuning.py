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


def test_choose_value_leaves_out_values_with_a_diverged_run():
    losses = curve([1e-3, 2e-3, 4e-3, 8e-3], optimum=2e-3) | {16e-3: [1.0, None], 32e-3: [float("nan"), 0.1]}
    tuned = choose_value(losses)
    assert tuned.best == pytest.approx(2e-3, rel=1e-2)
    assert tuned.mean_losses[-2:] == [None, None]


def test_choose_value_needs_a_value_that_every_seed_finished():
    with pytest.raises(ValueError, match="no value was trained to the end"):
        choose_value({1e-3: [None], 2e-3: [float("inf")], 3e-3: [None]})
