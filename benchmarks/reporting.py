"""Results of the benchmarks: a row, what the numbers depend on, the table, and the comparison with stored ones."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

TOLERANCE = 0.85
"""a stored ratio may shrink by this factor before --check fails"""


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
    """peak resident memory of the process; on a GPU, of its memory"""
    target: float | None
    cpu_ratio: float
    """of the units per second of processor time, median over the turns: other jobs on the machine change it less"""


def machine(threads: int, device: str) -> dict[str, Any]:
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
    gpu = _gpu() if device == "cuda" else {}
    return gpu | {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "cpu": cpu, "cores": os.cpu_count(),
        "threads": threads, "load": os.getloadavg()[0], "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def _gpu() -> dict[str, Any]:
    """Name, driver and CUDA of the GPU that is measured, the first one, and its peak in operations per second."""
    import torch  # noqa: PLC0415

    from gpt2lab.training.throughput import peak_flops  # noqa: PLC0415

    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    gpu = torch.device("cuda", 0)
    name, peak = torch.cuda.get_device_name(gpu), peak_flops(gpu, "bf16")
    return {"gpu": name, "driver": driver, "cuda": torch.version.cuda, "peak_flops": peak}


def table(
    rows: Sequence[Measured], about: Mapping[str, Any], left_out: Sequence[str], failed: Sequence[str] = ()
) -> str:
    """The results as Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    gpu = f"{about['gpu']}, driver {about['driver']}, CUDA {about['cuda']}; " if "gpu" in about else ""
    lines = [
        f"{gpu}{about['cpu']}, {about['cores']} cores, {about['threads']} threads, "
        f"load {about['load']:.1f} at the start, Python {about['python']}, {versions}; {about['date']}",
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
        lines += ["", f"Left out, because this device has no bf16 products: {'; '.join(left_out)}."]
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
