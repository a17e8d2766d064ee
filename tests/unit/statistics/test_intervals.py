"""Intervals against scipy and hand computation; coverage by simulation."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from gpt2lab.statistics.intervals import (
    FEW_DOCUMENTS,
    describe_document_interval,
    mean_error,
    mean_interval,
    proportion_interval,
    ratio_difference_interval,
    ratio_jackknife_interval,
    t_interval,
    t_quantile,
)


def test_mean_error_of_an_accuracy():
    values = np.array([1.0] * 30 + [0.0] * 70)
    assert mean_error(values) == pytest.approx(math.sqrt(0.3 * 0.7 / 99))  # p (1 - p) / (n - 1)
    assert mean_interval(values) == pytest.approx((0.3 - 1.96 * 0.046057, 0.3 + 1.96 * 0.046057), rel=1e-4)
    assert mean_error(np.array([1.0])) is mean_interval(np.array([1.0])) is None


@pytest.mark.parametrize(("ones", "n"), [(0, 500), (1, 100), (30, 100), (99, 100), (500, 500), (0, 1), (1, 1), (3, 7)])
def test_proportion_interval_is_wilsons_of_scipy(ones, n):
    expected = stats.binomtest(ones, n).proportion_ci(0.95, method="wilson")
    low, high = proportion_interval(np.array([1.0] * ones + [0.0] * (n - ones)))
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-12, abs=1e-15)
    assert 0 <= low < high <= 1


def test_t_quantile_is_that_of_scipy():
    for df in (1, 2, 7, 300):
        assert t_quantile(0.975, df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-12)


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


def heavy_tailed_documents():
    """882 documents with lognormal lengths (half of the text in 60 of them); long ones are somewhat harder."""
    rng = np.random.default_rng(0)
    units_D = np.maximum(20, np.round(rng.lognormal(6, 1.5, 882))).astype(int)
    loss_D = 3 + 0.1 * (np.log(units_D) - 6) + 0.4 * rng.standard_t(4, 882)
    return units_D * loss_D, units_D


def delta_method_interval(nll_D, units_D):
    """Cochran 1977, section 6.4."""
    ratio, n = nll_D.sum() / units_D.sum(), len(nll_D)
    error = math.sqrt(n / (n - 1) * ((nll_D - ratio * units_D) ** 2).sum()) / units_D.sum()
    return ratio - 1.96 * error, ratio + 1.96 * error


def stated_coverage():
    """The table of docs/statistics.md: documents -> coverage of the delta method and of the jackknife."""
    page = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text()
    table = page.partition("| documents | delta method |")[2]
    rows = re.findall(r"^\| (\d+) \| (0\.\d+) \| (0\.\d+) \|$", table, re.MULTILINE)
    return [(int(n), float(delta), float(jackknife)) for n, delta, jackknife in rows]


def test_docs_state_the_coverage_of_few_documents():
    assert [n for n, _, _ in stated_coverage()] == [9, 20, 29, 60, 100]


@pytest.mark.parametrize(("n", "delta", "jackknife"), stated_coverage())
def test_coverage_is_what_docs_state(n, delta, jackknife):
    nll_D, units_D = heavy_tailed_documents()
    true = nll_D.sum() / units_D.sum()
    rng, covered = np.random.default_rng(n), {"delta": 0, "jackknife": 0}
    draws = 4000
    for _ in range(draws):
        chosen = rng.integers(len(units_D), size=n)
        for name, interval in (("delta", delta_method_interval), ("jackknife", ratio_jackknife_interval)):
            low, high = interval(nll_D[chosen], units_D[chosen])
            covered[name] += low < true < high
    assert covered["delta"] / draws == pytest.approx(delta, abs=0.02)
    assert covered["jackknife"] / draws == pytest.approx(jackknife, abs=0.02)


def test_few_documents_are_named():
    assert describe_document_interval(1) == "none: one document says nothing of others"
    assert "too narrow, since documents < 60" in describe_document_interval(59)
    assert "too narrow" not in describe_document_interval(FEW_DOCUMENTS)


def test_paired_ratio_difference_is_narrower_than_either_ratio():
    rng = np.random.default_rng(3)
    units = rng.integers(100, 1000, 29)
    hard = units * rng.normal(3, 0.5, 29)
    other = hard + units * rng.normal(0.05, 0.02, 29)
    low, high = ratio_difference_interval(other, hard, units)
    alone = ratio_jackknife_interval(hard, units)
    assert low < 0.05 < high
    assert high - low < (alone[1] - alone[0]) / 10
