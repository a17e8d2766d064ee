"""Sweeps whose jobs are ``fake_job.py``, in this process or in one of their own."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt2lab.cli import sweeping

FAKE_JOB = Path(__file__).with_name("fake_job.py")
DRIVER = f"""
import sys
from gpt2lab.cli import sweeping
from gpt2lab.cli.console import open_console
from gpt2lab.config import UserError
sweeping.job_program = lambda script: [sys.executable, {str(FAKE_JOB)!r}]
open_console()
try:
    sys.exit(sweeping.run(sys.argv))
except UserError as error:
    sys.exit(f"error: {{error}}")
"""


def wait_for_first_step(process, run_dir):
    """Wait until a job of a running sweep has taken a step."""
    while not (run_dir / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Run a sweep of fake jobs in this process; returns its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweeping, "job_program", lambda script: [sys.executable, str(FAKE_JOB)])
    monkeypatch.setattr("gpt2lab.sweeps.executor.POLL_SECONDS", 0.02)

    def run(*arguments):
        return sweeping.run(["train.py", "-m", "sweep.report=false", *arguments])

    return run


@pytest.fixture
def start_sweep(tmp_path):
    """Start a sweep of fake jobs in a process of its own, in ``tmp_path``."""
    (tmp_path / "driver.py").write_text(DRIVER)
    processes = []

    def start(*arguments):
        command = [sys.executable, "driver.py", "-m", "sweep.report=false", *arguments]
        processes.append(
            subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def statuses():
    """Status of each job in a sweep's folder, by name."""

    def read(folder):
        return {job["name"]: job["status"] for job in json.loads((folder / "sweep.json").read_text())["jobs"]}

    return read
