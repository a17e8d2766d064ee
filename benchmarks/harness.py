"""Side-by-side measurements: two processes per pair take turns, and the ratio of each turn counts.

    python -m benchmarks                    every pair, several turns, a table and a JSON file in benchmarks/results/
    python -m benchmarks --quick            fewer turns, and only the pairs that are marked quick
    python -m benchmarks --only generation  one file of this folder
    python -m benchmarks --check            compare the ratios with those of the newest stored results
    python -m benchmarks --device cpu       a CPU's pairs, also where there is a GPU, whose pairs are measured there

A worker is a function that prepares one side of a pair and returns a function to time, which returns how much work it
did. Both sides of a pair stay alive while they take turns, so that imports and set-up are not timed and a machine that
slows down slows both. Nothing else should run on the machine.

A case of precision ``auto`` runs our side in what ``runtime.precision=auto`` chooses here. A pair that asks for
bf16 is left out, and named under the table, where the device has no bf16 products: both would time an emulation.

A file's PAIRS are measured on the CPU, its GPU_PAIRS on a GPU. There the memory is what PyTorch took of the GPU's, and
training steps have their model FLOPs utilization in a table of their own (mfu.py).
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.reporting import TOLERANCE, Measured, machine, regressions, table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FILES = ("startup", "loss", "training", "generation", "evaluation", "data", "checkpoints")
GPU_FILES = ("loss", "training", "generation", "evaluation")
"""those that have GPU_PAIRS"""
TURNS, QUICK_TURNS = 5, 3

Worker = Callable[[Mapping[str, Any]], Callable[[], float]]


class Pair(NamedTuple):
    """Two ways to do the same work."""

    work: str
    """what is measured, as the table names it"""
    ours: str
    theirs: str
    """keys of the file's WORKERS"""
    case: Mapping[str, Any]
    """given to both workers, as JSON"""
    unit: str = "tokens"
    target: float | None = None
    """the least ratio of ours to theirs; None: stated only"""
    quick: bool = False
    mfu_target: float | None = None
    """the least model FLOPs utilization of ours; None: it is not computed"""


class Turn(NamedTuple):
    """What one side did in its turn."""

    per_second: float
    per_cpu_second: float
    mib: float
    """peak memory"""


class Side:
    """A process that holds one side of a pair."""

    def __init__(self, file: str, worker: str, case: Mapping[str, Any], threads: int) -> None:
        environment = os.environ | {
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks", "--worker", file, worker, json.dumps(case)],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._read()  # ready

    def turn(self) -> Turn:
        """Do the work once."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = self._read()
        return Turn(result["units"] / result["seconds"], result["units"] / result["cpu"], result["kib"] / 1024)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _read(self) -> dict[str, float]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):  # other lines are a library's
                return json.loads(line[1:])
        _, errors = self.process.communicate()
        raise RuntimeError(f"a worker ended early: {errors[-2000:]}")


def work(file: str, worker: str, case: Mapping[str, Any]) -> None:
    """Be one side: prepare, then do the work once for each line of standard input."""
    run = importlib.import_module(f"benchmarks.{file}").WORKERS[worker](case)
    run()  # the first time allocates, compiles and fills caches
    print("@{}", flush=True)
    for _ in sys.stdin:
        started, cpu_started = time.perf_counter(), _cpu_seconds()
        units = run()
        seconds, cpu = time.perf_counter() - started, _cpu_seconds() - cpu_started
        kib = _gpu_peak_kib() if case.get("device") == "cuda" else _peak_kib()
        print("@" + json.dumps({"units": units, "seconds": seconds, "cpu": cpu, "kib": kib}), flush=True)


def _cpu_seconds() -> float:
    """Processor time of this process and of those that it has started and seen end."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def _peak_kib() -> float:
    """Peak resident memory of this process. ru_maxrss would include that of the parent it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(float(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    import resource  # noqa: PLC0415

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if platform.system() == "Darwin" else 1)


def _gpu_peak_kib() -> float:
    """Peak memory of this process's tensors on the GPU."""
    import torch  # noqa: PLC0415

    return torch.cuda.max_memory_allocated() / 1024


def measure(file: str, pair: Pair, turns: int, threads: int) -> Measured:
    """Let both sides take turns."""
    sides: list[Side] = []
    try:
        for worker in (pair.ours, pair.theirs):
            sides.append(Side(file, worker, pair.case, threads))
        results = [[side.turn() for side in sides] for _ in range(turns)]
    finally:
        for side in sides:
            side.close()
    ratios = [ours.per_second / theirs.per_second for ours, theirs in results]
    return Measured(
        pair.work, pair.ours, pair.theirs, pair.unit,
        statistics.median(ours.per_second for ours, _ in results),
        statistics.median(theirs.per_second for _, theirs in results),
        statistics.median(ratios), min(ratios), max(ratios),
        max(ours.mib for ours, _ in results), max(theirs.mib for _, theirs in results), pair.target,
        statistics.median(ours.per_cpu_second / theirs.per_cpu_second for ours, theirs in results),
    )  # fmt: skip


def find_device(name: str) -> str:
    """``cuda`` or ``cpu``; ``auto`` is the GPU where there is one."""
    import torch  # noqa: PLC0415

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def has_bf16(device: str) -> bool:
    """Whether the device multiplies bf16, as ``runtime.precision=auto`` decides it."""
    from gpt2lab.config import RuntimeConfig  # noqa: PLC0415
    from gpt2lab.runtime import open_runtime  # noqa: PLC0415

    return open_runtime(RuntimeConfig(device=device)).precision == "bf16"


def main(arguments: Sequence[str]) -> int:
    """The command line of ``python -m benchmarks``."""
    if arguments[:1] == ["--worker"]:
        work(arguments[1], arguments[2], json.loads(arguments[3]))
        return 0
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=FILES)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--turns", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    given = parser.parse_args(arguments)
    device = find_device(given.device)
    prefix = {"cpu": "bench", "cuda": "gpu"}[device]
    path = RESULTS / f"{prefix}_{datetime.now(UTC).strftime('%Y-%m-%d_%H%M')}"
    RESULTS.mkdir(exist_ok=True)
    rows, failed, text = measure_all(given, device, None if given.check else path)
    print("\n" + text)
    if given.check:
        stored = max(RESULTS.glob(f"{prefix}_*.json"), default=None)
        if stored is None:
            print("no stored results in benchmarks/results/: run make bench first")
            return 2
        worse = regressions(rows, json.loads(stored.read_text())["rows"])
        print("\n".join(worse) if worse else f"no ratio is below {TOLERANCE} of {stored.name}")
        return 1 if worse else 0
    print(f"written to {path.relative_to(ROOT)}.md and .json")
    return 1 if failed else 0


def measure_all(given: argparse.Namespace, device: str, path: Path | None) -> tuple[list[Measured], list[str], str]:
    """Measure the pairs that were asked for; return them, the works that failed, and the tables as Markdown.

    Args:
        given: the command line.
        device: cpu or cuda.
        path: of the results, which are written after each pair, so that an interrupted run leaves what it has measured;
            None: they are not written.
    """
    from benchmarks import mfu  # noqa: PLC0415

    about, bf16 = machine(given.threads, device), has_bf16(device)
    rows: list[Measured] = []
    utilizations: list[mfu.Utilization] = []
    left_out: list[str] = []
    failed: list[str] = []

    def text() -> str:
        whole = table(rows, about, left_out, failed)
        return whole + "\n" + mfu.table(utilizations, about["peak_flops"]) if utilizations else whole

    for file, pair in pairs_of(given.only, device):
        if "bf16" in (pair.case.get("precision"), pair.case.get("theirs")) and not bf16:
            left_out.append(f"{pair.work} ({pair.theirs})")
        elif pair.quick or not given.quick:
            try:
                row = measure(file, pair, given.turns or (QUICK_TURNS if given.quick else TURNS), given.threads)
            except RuntimeError as error:  # the other pairs are measured all the same
                print(f"{pair.work}: {error}", file=sys.stderr, flush=True)
                failed.append(pair.work)
                continue
            rows.append(row)
            if pair.mfu_target and about.get("peak_flops"):
                rates = (row.ours_per_second, row.theirs_per_second)
                of_peak = mfu.utilization(row.work, row.theirs, pair.case, rates, about["peak_flops"], pair.mfu_target)
                utilizations.append(of_peak)
            if path is not None:
                content = {"machine": about, "rows": [row._asdict() for row in rows]}
                content["mfu"] = [of_peak._asdict() for of_peak in utilizations]
                path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
                path.with_suffix(".md").write_text(text())
            print(f"{row.work}: {row.ours} / {row.theirs} = {row.ratio:.2f}", flush=True)
    return rows, failed, text()


def pairs_of(only: str | None, device: str) -> Iterator[tuple[str, Pair]]:
    """The pairs that are measured on the device, with the file that each is in."""
    files, name = (FILES, "PAIRS") if device == "cpu" else (GPU_FILES, "GPU_PAIRS")
    for file in files:
        if only in (None, file):
            for pair in getattr(importlib.import_module(f"benchmarks.{file}"), name):
                yield file, pair
