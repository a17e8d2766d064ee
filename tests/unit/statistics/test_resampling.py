"""Bootstrap and jackknife over texts: coverage by simulation, the jackknife of a mean by its formula."""

import math

import numpy as np
import pytest

from gpt2lab.statistics.resampling import bootstrap_ratio, draw_weights, jackknife


def test_bootstrap_covers_a_mean_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    weights_RS = draw_weights(100, 400, 0)
    assert (weights_RS.sum(1) == 100).all()
    for _ in range(300):
        numerator_S, denominator_S = rng.exponential(2.0, 100), rng.integers(1, 5, 100).astype(float)
        low, high = bootstrap_ratio(numerator_S, denominator_S, weights_RS)
        covered += low < 2.0 / 2.5 < high
    assert 0.9 < covered / 300 < 0.985
    assert bootstrap_ratio(np.zeros(3), np.zeros(3), draw_weights(3, 5, 0)) is None


def test_jackknife_of_a_mean_is_its_normal_interval():
    values = np.random.default_rng(0).normal(size=20)
    error = values.std(ddof=1) / math.sqrt(20)
    assert jackknife(lambda items: float(np.mean(items)), values) == pytest.approx(
        (values.mean() - 1.959964 * error, values.mean() + 1.959964 * error), rel=1e-6
    )
