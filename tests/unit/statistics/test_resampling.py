"""The jackknife over texts: that of a mean by its formula, and coverage where texts of one document are alike."""

import math

import numpy as np
import pytest
from scipy import stats

from gpt2lab.statistics.resampling import jackknife


def mean(items):
    return float(np.mean(items))


def test_jackknife_of_a_mean_is_its_t_interval():
    values = np.random.default_rng(0).normal(size=20)
    half = stats.t.ppf(0.975, 19) * values.std(ddof=1) / math.sqrt(20)
    assert jackknife(mean, values, np.arange(20)) == pytest.approx((values.mean() - half, values.mean() + half))


def test_texts_of_one_document_are_left_out_together():
    rng, covered = np.random.default_rng(1), {"document": 0, "text": 0}
    document_S = np.repeat(np.arange(12), 5)
    for _ in range(500):
        values = rng.normal(0, 1, 12)[document_S] + rng.normal(0, 0.3, 60)
        for unit, own in (("document", document_S), ("text", np.arange(60))):
            low, high = jackknife(mean, values, own)
            covered[unit] += low < 0 < high
    assert 0.92 < covered["document"] / 500 < 0.98
    assert covered["text"] / 500 < 0.75


def test_no_interval_without_a_second_document():
    assert jackknife(mean, [1.0, 2.0], np.array([3, 3])) is None
    assert jackknife(lambda items: math.nan, [1.0, 2.0], np.array([0, 1])) is None
