"""Every launcher runs the same jobs; jobs beside each other share the machine."""

import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from gpt2lab.config import UserError
from gpt2lab.runs import read_lines
from gpt2lab.sweeps.launchers import RayLauncher, RemoteJob, available_gpus, divide
from tests.unit.sweeps.conftest import FAKE_JOB, wait_for_first_step


def test_divide_gives_disjoint_equal_shares():
    assert divide([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3]]
    assert divide([0, 1], 3) == [[0], [1], [0]]
    assert divide([], 2) == [[], []]


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        ("GPU 0: NVIDIA H100 (UUID: GPU-5d5b)\nGPU 1: NVIDIA H100 (UUID: GPU-77aa)\n", ["0", "1"]),
        (
            "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5b)\n"
            "  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4-42e4)\n"
            "  MIG 3g.20gb     Device  1: (UUID: MIG-cba6-9bed)\n",
            ["MIG-c6d4-42e4", "MIG-cba6-9bed"],
        ),
        ("Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost.\n", []),
    ],
    ids=["whole", "divided", "lost"],
)
def test_available_gpus_are_what_a_process_can_use(tmp_path, monkeypatch, listed, gpus):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<END\n{listed}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert available_gpus() == gpus


def test_local_jobs_run_beside_each_other_on_their_own_cores(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0.2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert sweep("seed=0,1", "sweep.parallel=2", "sweep.name=s") == 0
    (first,), (second,) = (read_lines(tmp_path / f"runs/sweeps/s/seed={seed}/starts.jsonl") for seed in (0, 1))
    overlap = min(first["ended"], second["ended"]) - max(first["began"], second["began"])
    assert overlap > 0.5  # each takes 5 steps of 0.2 s: one after the other they would not overlap at all
    assert (first["gpus"], second["gpus"]) == ("4", "7")
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            assert not set(first["cores"]) & set(second["cores"])
        for start in (first, second):
            assert set(start["cores"]) <= set(cores)
            assert start["threads"] == str(len(start["cores"]))


@pytest.mark.skipif(platform.system() != "Linux", reason="needs prctl(2)")
def test_jobs_of_a_killed_sweep_save_and_end(start_sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    process = start_sweep("seed=0,1", "sweep.name=s")
    run_dir = tmp_path / "runs/sweeps/s/seed=0"
    wait_for_first_step(process, run_dir)
    process.kill()
    deadline = time.monotonic() + 20
    while not (run_dir / "summary.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "stopped"


WORKER = f"""
import sys
from gpt2lab.sweeps.launchers import run_until_stopped
run_until_stopped([sys.executable, {str(FAKE_JOB)!r}, "run_dir=run"], "console.txt", ".stop", ".")
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="needs prctl(2)")
def test_job_of_a_killed_worker_saves_and_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    (tmp_path / "run").mkdir()
    worker = subprocess.Popen([sys.executable, "-c", WORKER], cwd=tmp_path)
    try:
        wait_for(tmp_path / "run" / "metrics.jsonl")
    finally:
        worker.kill()
        worker.wait()
    wait_for(tmp_path / "run" / "summary.json")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "stopped"


def wait_for(file):
    deadline = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_dead_ray_worker_is_a_failed_job(tmp_path):
    class WorkerCrashedError(Exception):
        """As in ``ray.exceptions``."""

    def get(reference):
        raise WorkerCrashedError("the worker died\nunexpectedly")

    launcher = RayLauncher.__new__(RayLauncher)  # no cluster
    launcher.ray = SimpleNamespace(
        wait=lambda references, timeout: (references, []),
        get=get,
        exceptions=SimpleNamespace(RayError=WorkerCrashedError),
    )
    console = tmp_path / "console.txt"
    job = RemoteJob(tmp_path / ".stop", launcher._status_of("reference", console))
    assert job.poll() == 1
    expected = "error: the worker of this job was lost: WorkerCrashedError: the worker died unexpectedly"
    assert console.read_text().strip() == expected


def losses(folder):
    return {path.parent.name: json.loads(path.read_text())["val_loss"] for path in folder.glob("*/summary.json")}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [["sweep.launcher=slurm", "sweep.slurm={cluster:local}"], ["sweep.launcher=ray"]])
def test_remote_launchers_give_the_results_of_the_local_one(sweep, tmp_path, statuses, launcher, capsys):
    root = tmp_path / "runs" / "sweeps"
    (root / "remote" / "positions=rope,seed=1").mkdir(parents=True)
    (root / "remote" / "positions=rope,seed=1" / "fail").touch()
    four = ["model/positions=learned,rope", "seed=0,1"]
    assert sweep(*four, "sweep.name=remote", "sweep.parallel=2", *launcher) == 1
    assert list(statuses(root / "remote").values()) == ["completed"] * 3 + ["failed"]
    assert "positions=rope,seed=1: exit status 2: planted" in capsys.readouterr().out
    assert sweep(*four, "sweep.name=remote", *launcher) == 0
    assert sweep(*four, "sweep.name=local") == 0
    assert losses(root / "remote") == losses(root / "local")


@pytest.mark.slow
def test_remote_jobs_are_stopped_and_continued(start_sweep, tmp_path, statuses, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0.5")
    arguments = ["seed=0,1", "sweep.name=s", "sweep.launcher=slurm", "sweep.slurm={cluster:local}"]
    process = start_sweep(*arguments)
    folder = tmp_path / "runs" / "sweeps" / "s"
    wait_for_first_step(process, folder / "seed=0")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert list(statuses(folder).values()) == ["stopped", "pending"]
    monkeypatch.setenv("FAKE_SECONDS", "0.01")
    assert start_sweep(*arguments).wait(timeout=60) == 0
    assert set(statuses(folder).values()) == {"completed"}


@pytest.mark.parametrize(("launcher", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_launcher_that_cannot_start_here_leaves_no_folder(sweep, tmp_path, monkeypatch, launcher, package):
    monkeypatch.setattr("shutil.which", lambda name: None)
    find_spec = importlib.util.find_spec
    if launcher == "slurm":
        with pytest.raises(UserError, match="sweep.launcher=slurm: no srun on this machine"):
            sweep("seed=0,1", "sweep.launcher=slurm")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(UserError, match=rf"sweep.launcher={launcher}.*{package}"):
        sweep("seed=0,1", f"sweep.launcher={launcher}")
    assert not list(tmp_path.iterdir())
