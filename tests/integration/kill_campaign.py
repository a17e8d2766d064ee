"""Kills and signals at random moments.

    python -m tests.integration.kill_campaign [--kills 50] [--seed 0] [--parallel fsdp]

A run is ended again and again, in steps, in evaluations and while it saves, as one process and as two (which save in
the background): all its processes are killed, or the launcher alone, or the launcher gets SIGUSR1. No process may
outlive the launcher. The run is started again with ``resume=auto``; in the end its weights, optimizer state and losses
must be those of a run left alone.
"""

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpt2lab.runs import read_lines
from tests.integration.conftest import ONE_THREAD, ROOT, TINY, copy_corpus, run_in

# dropout, accumulation of two micro-batches, and an epoch boundary every 16 or so steps of the 40,000-token corpus
RUN = [
    *TINY,
    "data.files=[argparse.py]",
    "data.val_fraction=0.2",
    "training.checkpoint_every=7",
    "training.eval_every=10",
    "training.log_every=1",
    "training.micro_batch_size=4",
    "model.dropout=0.1",
    "runtime.precision=fp32",
    "samples.sampling.max_new_tokens=4",
]

PROCESSES = {"ddp": (1, 2), "fsdp": (2,)}
"""numbers of processes of a campaign, by ``runtime.parallel``"""


def campaign(
    folder: Path, processes: int, steps: int, kills: int, seed: int, parallel: str = "ddp"
) -> collections.Counter[str]:
    """Kill a run ``kills`` times in ``folder``, which holds the corpus; return what it was doing each time.

    Raises:
        AssertionError: the result differs from that of a run left alone.
    """
    settings = [*RUN, f"training.max_steps={steps}", f"runtime.num_processes={processes}"]
    settings.append(f"runtime.parallel={parallel}")
    settings.append(f"runtime.background_checkpoints={processes == 2}")
    straight, killed = folder / f"straight{processes}", folder / f"killed{processes}"
    run_in(folder, "train.py", *settings, f"run_dir={straight}")
    moments, met = random.Random(seed), collections.Counter[str]()
    command = [sys.executable, ROOT / "train.py", *settings, f"run_dir={killed}", "resume=auto"]
    while True:
        with (folder / "stderr.txt").open("w") as log:
            process = subprocess.Popen(command, cwd=folder, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=log)
            if met.total() < kills and wait_for_a_new_step(killed, process):
                time.sleep(moments.uniform(0, 0.4))
                saving = any((killed / "checkpoints").glob("*.tmp"))
                last = (read_lines(killed / "metrics.jsonl") or [{}])[-1]
                if process.poll() is None:
                    way = moments.choice(WAYS)
                    way(process, killed)
                    evaluating = last.get("step", 1) % 10 == 0 and "val_loss" not in last
                    moment = "a save" if saving else "an evaluation" if evaluating else "a step"
                    met[f"{way.__name__} in {moment}"] += 1
            status = process.wait()
        wait_for_the_end_of(killed)
        if status == 0:
            break
        assert status in (-signal.SIGKILL, -signal.SIGUSR1, 128 + signal.SIGUSR1), (folder / "stderr.txt").read_text()
    compare(straight, killed)
    return met


def wait_for_a_new_step(run_dir: Path, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the run has written a line of its record since it was started; false if it ended before."""
    metrics = run_dir / "metrics.jsonl"
    before = metrics.stat().st_mtime_ns if metrics.exists() else None
    rewound = None
    while process.poll() is None:
        now = metrics.stat().st_mtime_ns if metrics.exists() else None
        if now != before and rewound is None and before is not None:
            rewound, before = now, now  # a resumed run first drops the lines after its checkpoint
        elif now != before:
            return True
        time.sleep(0.005)
    return False


def kill_all(process: subprocess.Popen[bytes], run_dir: Path) -> None:
    """SIGKILL to the launcher and the processes it started."""
    for pid in processes_of(run_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_launcher(process: subprocess.Popen[bytes], run_dir: Path) -> None:
    """SIGKILL to the process that was started, alone."""
    process.kill()


def send_sigusr1(process: subprocess.Popen[bytes], run_dir: Path) -> None:
    """SLURM's warning."""
    process.send_signal(signal.SIGUSR1)


WAYS = (kill_all, kill_launcher, send_sigusr1)


def processes_of(run_dir: Path) -> list[int]:
    """All processes that name the run's folder in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if f"run_dir={run_dir}".encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def wait_for_the_end_of(run_dir: Path) -> None:
    """Wait until no process of the run is left; an orphan is an ``AssertionError``."""
    deadline = time.monotonic() + 20
    while left := processes_of(run_dir):
        assert time.monotonic() < deadline, f"orphans: {left}"
        time.sleep(0.02)


def compare(straight: Path, killed: Path) -> None:
    """Assert that two runs left the same state and the same record."""
    for name in ("model.safetensors", "optimizer.pt"):
        one, other = ((run / "checkpoints" / "last" / name).read_bytes() for run in (straight, killed))
        assert one == other, f"{name} differs"
    one, other = (
        [(m["step"], m.get("loss"), m.get("val_loss")) for m in read_lines(run / "metrics.jsonl")]
        for run in (straight, killed)
    )
    assert one == other, "the record differs"


def main() -> None:
    """Run the campaign once as one process and once as two, or with FSDP as two, and print what was met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="in all, shared out over one and two processes")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--parallel", choices=PROCESSES, default="ddp", help="runtime.parallel; fsdp: two processes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy_corpus(Path(folder))
        for processes in PROCESSES[arguments.parallel]:
            kills = arguments.kills // len(PROCESSES[arguments.parallel])
            met = campaign(Path(folder), processes, 40 * kills, kills, arguments.seed, arguments.parallel)
            what = ", ".join(f"{count} {name}" for name, count in met.items())
            print(
                f"{processes} process(es), {arguments.parallel}: {met.total()} kills ({what}); bit-equal to the run "
                "left alone",
                flush=True,
            )


if __name__ == "__main__":
    main()
