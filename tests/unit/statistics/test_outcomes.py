"""Two kinds of outcome: found where planted, rare where values are normal."""

import numpy as np
import pytest

from gpt2lab.statistics.outcomes import find_two_modes


@pytest.mark.parametrize("seeds", [4, 5, 10])
def test_normal_values_are_flagged_one_time_in_a_hundred(seeds):
    values = np.random.default_rng(1).normal(3, 0.02, (10_000, seeds))
    assert np.mean([find_two_modes(row) is not None for row in values]) == pytest.approx(0.01, abs=0.004)


def test_planted_second_mode_is_found():
    values = np.array([3.151, 3.150, 3.402, 3.149, 3.401, 3.153, 3.148])
    found = find_two_modes(values)
    assert (found.lower, found.upper) == (5, 2)
    assert found.gap == pytest.approx(0.248)


def test_few_or_equal_values_have_one_mode():
    assert find_two_modes(np.array([1.0, 1.0, 9.0])) is None
    assert find_two_modes(np.ones(6)) is None
