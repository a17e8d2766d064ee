"""benchmarks.harness: turns, ratios, the table and the regression check."""

import importlib
import json

import pytest

from benchmarks import harness
from benchmarks.harness import FILES, Measured, Pair, Side, Turn, measure, regressions, table

ROW = Measured("work", "ours", "theirs", "tokens", 200.0, 100.0, 2.0, 1.5, 2.5, 300.0, 600.0, 1.6, 1.9)


class FakeSide:
    """Rates and memory that are known."""

    closed = 0

    def __init__(self, file, worker, case, threads):
        self.rates = iter({"ours": [10.0, 30.0, 20.0], "theirs": [10.0, 10.0, 10.0]}[worker])

    def turn(self):
        rate = next(self.rates)
        return Turn(rate, rate / 4 if rate > 10 else rate / 2, 7.0)

    def close(self):
        FakeSide.closed += 1


def test_measure_takes_the_median_of_the_ratios_of_turns(monkeypatch):
    monkeypatch.setattr(harness, "Side", FakeSide)
    measured = measure("loss", Pair("w", "ours", "theirs", {}, target=1.6), turns=3, threads=1)
    assert (measured.ratio, measured.ratio_low, measured.ratio_high) == (2.0, 1.0, 3.0)
    assert (measured.ours_per_second, measured.theirs_per_second, measured.ours_mib) == (20.0, 10.0, 7.0)
    assert measured.cpu_ratio == 1.0  # 30/4 : 10/2, 20/4 : 10/2, 10/2 : 10/2
    assert FakeSide.closed == 2


def test_table_states_ratio_target_and_memory():
    about = {"cpu": "C", "cores": 2, "threads": 1, "load": 0.0, "python": "3", "versions": {"torch": "2"}, "date": "d"}
    missed = ROW._replace(ratio=1.0)
    lines = table([ROW, missed], about, []).splitlines()
    assert lines[0] == "C, 2 cores, 1 threads, load 0.0 at the start, Python 3, torch 2; d"
    assert "| 2.00 (1.50 - 2.50) | 1.90 | 1.6 met | 300 / 600 | 0.50 |" in lines[-2]
    assert "1.6 not met" in lines[-1]


def test_a_pair_that_fails_does_not_lose_the_others(monkeypatch, tmp_path, capsys):
    def measured(file, pair, turns, threads):
        if pair.work == "bad":
            raise RuntimeError("a worker ended early")
        return ROW._replace(work=pair.work)

    pairs = [Pair(work, "ours", "theirs", {}) for work in ("bad", "good")]
    monkeypatch.setattr(importlib.import_module("benchmarks.loss"), "PAIRS", pairs)
    monkeypatch.setattr(harness, "measure", measured)
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    assert harness.main(["--only", "loss"]) == 1
    (written,) = tmp_path.glob("bench_*.md")
    assert "| good |" in written.read_text()
    assert "Failed: bad." in written.read_text()
    assert "bad: a worker ended early" in capsys.readouterr().err


@pytest.mark.parametrize(("now", "worse"), [(2.0, 0), (1.71, 0), (1.69, 1)])
def test_regressions_are_ratios_below_the_stored_ones(now, worse):
    stored = json.loads(json.dumps([ROW._asdict()]))
    assert len(regressions([ROW._replace(ratio=now), ROW._replace(work="new", ratio=0.1)], stored)) == worse


@pytest.mark.parametrize("file", FILES)
def test_pairs_name_workers_that_exist(file):
    module = importlib.import_module(f"benchmarks.{file}")
    assert {name for pair in module.PAIRS for name in (pair.ours, pair.theirs)} <= set(module.WORKERS)
    assert any(pair.quick for pair in module.PAIRS)


@pytest.mark.slow
def test_a_side_works_in_a_process_of_its_own():
    case = {"tokens": 4, "width": 8, "precision": "fp32"}
    side = Side("loss", "gpt2lab", case, threads=1)
    turn = side.turn()
    side.close()
    assert min(turn.per_second, turn.per_cpu_second) > 0
    assert turn.mib > 10
    with pytest.raises(RuntimeError, match="KeyError"):
        Side("loss", "gpt2lab", {}, threads=1)
