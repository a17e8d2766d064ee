"""benchmarks.reporting: the table and the regression check."""

import json

import pytest

from benchmarks.reporting import Measured, regressions, table

ROW = Measured("work", "ours", "theirs", "tokens", 200.0, 100.0, 2.0, 1.5, 2.5, 300.0, 600.0, 1.6, 1.9)


def test_table_states_ratio_target_and_memory():
    about = {"cpu": "C", "cores": 2, "threads": 1, "load": 0.0, "python": "3", "versions": {"torch": "2"}, "date": "d"}
    missed = ROW._replace(ratio=1.0)
    lines = table([ROW, missed], about, []).splitlines()
    assert lines[0] == "C, 2 cores, 1 threads, load 0.0 at the start, Python 3, torch 2; d"
    assert "| 2.00 (1.50 - 2.50) | 1.90 | 1.6 met | 300 / 600 | 0.50 |" in lines[-2]
    assert "1.6 not met" in lines[-1]


@pytest.mark.parametrize(("now", "worse"), [(2.0, 0), (1.71, 0), (1.69, 1)])
def test_regressions_are_ratios_below_the_stored_ones(now, worse):
    stored = json.loads(json.dumps([ROW._asdict()]))
    assert len(regressions([ROW._replace(ratio=now), ROW._replace(work="new", ratio=0.1)], stored)) == worse
