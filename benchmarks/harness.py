"""Side-by-side measurements: two processes per pair take turns, and the ratio of each turn counts.

    python -m benchmarks                    every pair, several turns, a table and a JSON file in benchmarks/results/
    python -m benchmarks --quick            fewer turns, and only the pairs that are marked quick
    python -m benchmarks --only generation  one file of this folder
    python -m benchmarks --check            compare the ratios with those of the newest stored results

A worker is a function that prepares one side of a pair and returns a function to time, which returns how much work it
did. Both sides of a pair stay alive while they take turns, so that imports and set-up are not timed and a machine that
slows down slows both. Nothing else should run on the machine.

A case of precision ``auto`` runs our side in what ``runtime.precision=auto`` chooses here. A pair that asks for
bf16 is left out, and named under the table, where the processor has no bf16 products: both would time an emulation.
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
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FILES = ("startup", "loss", "training", "generation", "evaluation", "data", "checkpoints")
TURNS, QUICK_TURNS = 5, 3
TOLERANCE = 0.85
"""a stored ratio may shrink by this factor before --check fails"""

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


class Measured(NamedTuple):
    """One pair's turns, summarized."""

    work: str
    ours: str
    theirs: str
    unit: str
    ours_per_second: float
    theirs_per_second: float
    ratio: float
    """median over the turns"""
    ratio_low: float
    ratio_high: float
    ours_mib: float
    theirs_mib: float
    """peak resident memory of the process"""
    target: float | None
    cpu_ratio: float
    """of the units per second of processor time, median over the turns: other jobs on the machine change it less"""


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
        print("@" + json.dumps({"units": units, "seconds": seconds, "cpu": cpu, "kib": _peak_kib()}), flush=True)


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


def machine(threads: int) -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    versions = {}
    for package in ("torch", "transformers", "lm_eval", "datasets", "tiktoken", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "cpu": cpu, "cores": os.cpu_count(),
        "threads": threads, "load": os.getloadavg()[0], "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def has_bf16() -> bool:
    """Whether this processor multiplies bf16, as ``runtime.precision=auto`` decides it."""
    from gpt2lab.config import RuntimeConfig  # noqa: PLC0415
    from gpt2lab.runtime import open_runtime  # noqa: PLC0415

    return open_runtime(RuntimeConfig(device="cpu")).precision == "bf16"


def table(
    rows: Sequence[Measured], about: Mapping[str, Any], left_out: Sequence[str], failed: Sequence[str] = ()
) -> str:
    """The results as Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['threads']} threads, load {about['load']:.1f} at the start, "
        f"Python {about['python']}, {versions}; {about['date']}",
        "",
        "| work | ours | theirs | unit/s | ours | theirs | ratio (lowest - highest) | by CPU time | target "
        "| memory, MiB | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        target = "" if row.target is None else f"{row.target:g} {'met' if row.ratio >= row.target else 'not met'}"
        lines.append(
            f"| {row.work} | {row.ours} | {row.theirs} | {row.unit} | {_short(row.ours_per_second)} "
            f"| {_short(row.theirs_per_second)} | {row.ratio:.2f} ({row.ratio_low:.2f} - {row.ratio_high:.2f}) "
            f"| {row.cpu_ratio:.2f} | {target} "
            f"| {row.ours_mib:,.0f} / {row.theirs_mib:,.0f} | {row.ours_mib / row.theirs_mib:.2f} |"
        )
    if left_out:
        lines += ["", f"Left out, because this processor has no bf16 products: {'; '.join(left_out)}."]
    if failed:
        lines += ["", f"Failed: {'; '.join(failed)}."]
    return "\n".join(lines) + "\n"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def regressions(rows: Sequence[Measured], stored: Sequence[Mapping[str, Any]]) -> list[str]:
    """Works whose ratio is below TOLERANCE of the stored one."""
    before = {(row["work"], row["ours"], row["theirs"]): row["ratio"] for row in stored}
    return [
        f"{row.work}: {row.ours} / {row.theirs} = {row.ratio:.2f}, stored {before[key]:.2f}"
        for row in rows
        if (key := (row.work, row.ours, row.theirs)) in before and row.ratio < TOLERANCE * before[key]
    ]


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
    given = parser.parse_args(arguments)
    about, rows, bf16 = machine(given.threads), [], has_bf16()
    left_out: list[str] = []
    failed: list[str] = []
    name = RESULTS / f"bench_{datetime.now(UTC).strftime('%Y-%m-%d_%H%M')}"
    RESULTS.mkdir(exist_ok=True)
    for file in [given.only] if given.only else FILES:
        for pair in importlib.import_module(f"benchmarks.{file}").PAIRS:
            if "bf16" in (pair.case.get("precision"), pair.case.get("theirs")) and not bf16:
                left_out.append(f"{pair.work} ({pair.theirs})")
            elif pair.quick or not given.quick:
                turns = given.turns or (QUICK_TURNS if given.quick else TURNS)
                try:
                    row = measure(file, pair, turns, given.threads)
                except RuntimeError as error:  # the other pairs are measured all the same
                    print(f"{pair.work}: {error}", file=sys.stderr, flush=True)
                    failed.append(pair.work)
                    continue
                rows.append(row)
                if not given.check:  # after each pair, so that an interrupted run leaves what it has measured
                    content = {"machine": about, "rows": [row._asdict() for row in rows]}
                    name.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
                    name.with_suffix(".md").write_text(table(rows, about, left_out, failed))
                print(f"{row.work}: {row.ours} / {row.theirs} = {row.ratio:.2f}", flush=True)
    print("\n" + table(rows, about, left_out, failed))
    if given.check:
        stored = max(RESULTS.glob("bench_*.json"), default=None)
        if stored is None:
            print("no stored results in benchmarks/results/: run make bench first")
            return 2
        worse = regressions(rows, json.loads(stored.read_text())["rows"])
        print("\n".join(worse) if worse else f"no ratio is below {TOLERANCE} of {stored.name}")
        return 1 if worse else 0
    print(f"written to {name.relative_to(ROOT)}.md and .json")
    return 1 if failed else 0
