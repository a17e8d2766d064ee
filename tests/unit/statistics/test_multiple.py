"""Adjusted p values against scipy, published tables and hand computation."""

import numpy as np
import pytest
from scipy import stats

from gpt2lab.statistics.multiple import (
    bonferroni_critical,
    dunnett_critical,
    dunnett_p,
    holm,
    tukey_critical,
    tukey_p,
)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_dunnett_is_that_of_scipy_where_groups_are_independent():
    rng = np.random.default_rng(0)
    control, *variants = [rng.normal(0.4 * i, 1, 6) for i in range(4)]
    expected = stats.dunnett(*variants, control=control, rng=rng)
    ours = [dunnett_p(t, comparisons=3, df=20) for t in expected.statistic]
    assert ours == pytest.approx(expected.pvalue, abs=5e-4)  # scipy integrates by quasi-Monte Carlo


@pytest.mark.parametrize(("comparisons", "df", "table"), [(1, 10, 2.23), (2, 10, 2.57), (3, 20, 2.54), (9, 20, 2.95)])
def test_dunnett_critical_is_that_of_the_table_of_1964(comparisons, df, table):
    assert dunnett_critical(comparisons, df) == pytest.approx(table, abs=0.006)


def test_dunnett_p_of_critical_value_is_alpha():
    assert dunnett_p(dunnett_critical(4, 12), 4, 12) == pytest.approx(0.05, abs=1e-5)
    assert dunnett_p(2.0, 1, 7) == pytest.approx(2 * stats.t.sf(2, 7))
    assert dunnett_p(float("inf"), 3, 7) == 0


def test_tukey_is_that_of_scipy():
    rng = np.random.default_rng(1)
    groups = [rng.normal(0.5 * i, 1, 7) for i in range(3)]
    expected = stats.tukey_hsd(*groups)
    error = np.sqrt(np.mean([g.var(ddof=1) for g in groups]) * 2 / 7)
    t = (groups[2].mean() - groups[0].mean()) / error
    assert tukey_p(t, 3, 18) == pytest.approx(expected.pvalue[2, 0])
    interval = expected.confidence_interval()
    assert tukey_critical(3, 18) * error == pytest.approx((interval.high[2, 0] - interval.low[2, 0]) / 2)


def test_bonferroni_is_wider_than_dunnett():
    assert bonferroni_critical(3, 12) > dunnett_critical(3, 12) > dunnett_critical(1, 12)
