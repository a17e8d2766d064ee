"""benchmarks.harness: turns, ratios, which pairs are measured, and what the workers of a GPU do."""

import importlib
import json

import pytest

from benchmarks import harness
from benchmarks.harness import FILES, GPU_FILES, Pair, Side, Turn, measure, pairs_of
from benchmarks.models import SHAPES
from tests.unit.benchmarks.test_reporting import ROW


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


def test_a_gpu_has_pairs_of_its_own_and_their_utilization(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "measure", lambda file, pair, *_: ROW._replace(work=pair.work))
    monkeypatch.setattr(harness, "has_bf16", lambda device: True)
    about = {"gpu": "NVIDIA H200", "driver": "580", "cuda": "13.0", "peak_flops": 989e12}
    machine = harness.machine(1, "cpu")
    monkeypatch.setattr(harness, "machine", lambda threads, device: {**machine, **about})
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    assert harness.main(["--device", "cuda", "--quick"]) == 0
    (written,) = tmp_path.glob("gpu_*.md")
    assert written.read_text().startswith("NVIDIA H200, driver 580, CUDA 13.0; ")
    assert "Model FLOPs utilization, of 989 TFLOP/s:" in written.read_text()
    (stored,) = (json.loads(path.read_text()) for path in tmp_path.glob("gpu_*.json"))
    assert [row["target"] for row in stored["mfu"]] == [0.48, 0.43, 0.55]
    assert not list(tmp_path.glob("bench_*"))


@pytest.mark.parametrize(("device", "files"), [("cpu", FILES), ("cuda", GPU_FILES)])
def test_pairs_name_workers_that_exist(device, files):
    for file in files:
        pairs, workers = (
            [pair for _, pair in pairs_of(file, device)],
            importlib.import_module(f"benchmarks.{file}").WORKERS,
        )
        assert {name for pair in pairs for name in (pair.ours, pair.theirs)} <= set(workers)
        assert {pair.case.get("device", "cpu") for pair in pairs} == {device}
        assert any(pair.quick for pair in pairs)


SMALLER = {"rows": 4, "micro_batch": 2, "T": 8, "tokens": 60, "stride": 8, "width": 8, "new": 4, "questions": 1}


@pytest.mark.slow
@pytest.mark.parametrize("file", GPU_FILES)
def test_both_sides_of_a_gpu_pair_do_the_same_amount_of_work(file, monkeypatch):
    """On the CPU, with small shapes and without compiling, and one pair of workers once."""
    tiny = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 16}
    monkeypatch.setattr("benchmarks.models.SHAPES", dict.fromkeys(SHAPES, tiny))
    module = importlib.import_module(f"benchmarks.{file}")
    for pair in {(pair.ours, pair.theirs): pair for pair in module.GPU_PAIRS}.values():
        smaller = {key: value for key, value in SMALLER.items() if key in pair.case}
        case = {**pair.case, **smaller, "device": "cpu", "compile": False, "precision": "fp32"}
        workers = [module.WORKERS[name.replace(", compiled", "")] for name in (pair.ours, pair.theirs)]
        assert len({worker(case)() for worker in workers}) == 1


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
