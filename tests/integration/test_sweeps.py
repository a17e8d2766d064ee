"""A sweep of real runs: stopped and continued, it ends with the numbers of one that was not stopped."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.integration.conftest import ONE_THREAD, ROOT, TINY, run_in

SWEEP = ["-m", *TINY, "model.dropout=0.1", "seed=1,2", "training.checkpoint_every=0", "sweep.report=false"]


def final_losses(folder):
    return {path.parent.name: json.loads(path.read_text())["val_loss"] for path in folder.glob("*/summary.json")}


@pytest.mark.slow
def test_sweep_stopped_by_ctrl_c_ends_with_the_losses_of_an_uninterrupted_one(workplace):
    settings = [*SWEEP, "training.max_steps=40"]
    command = [sys.executable, str(ROOT / "train.py"), *settings, "sweep.name=cut"]
    process = subprocess.Popen(command, cwd=workplace, env=ONE_THREAD, stdout=subprocess.PIPE, text=True)
    folder = workplace / "runs" / "sweeps" / "cut"
    metrics = folder / "seed=1" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 1):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    jobs = json.loads((folder / "sweep.json").read_text())["jobs"]
    assert [job["status"] for job in jobs] == ["stopped", "pending"]
    assert not (folder / "seed=2").exists()
    assert 0 < json.loads((folder / "seed=1" / "summary.json").read_text())["steps"] < 40

    (typed,) = re.findall(r"to continue, type: python (.*)", shown)
    subprocess.run([sys.executable, *shlex.split(typed)], cwd=workplace, env=ONE_THREAD, check=True)
    run_in(workplace, "train.py", *settings, "sweep.name=straight")
    assert final_losses(folder) == final_losses(folder.with_name("straight"))
    assert set(final_losses(folder)) == {"seed=1", "seed=2"}
    assert "seed: 2\n" in (folder / "seed=2" / "config.yaml").read_text()
