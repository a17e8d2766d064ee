"""A sweep of real runs over positions: stopped and continued, it ends as one that was not stopped."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import yaml

from gpt2lab.runs import read_lines
from tests.integration.conftest import ONE_THREAD, ROOT, TINY, run_in

SWEEP = [
    "-m",
    "model/positions=learned,rope",
    *TINY,
    "model.dropout=0.1",
    "optimizer.lr=1e-2",
    "training.max_steps=40",
    "training.log_every=1",
    "training.checkpoint_every=0",
    "sweep.report=false",
]
CELLS = ["positions=learned", "positions=rope"]


def final_losses(folder):
    return {path.parent.name: json.loads(path.read_text())["val_loss"] for path in folder.glob("*/summary.json")}


@pytest.mark.slow
def test_sweep_stopped_by_ctrl_c_ends_with_the_losses_of_an_uninterrupted_one(workplace):
    run_in(workplace, "train.py", *SWEEP, "sweep.name=straight")
    folder = workplace / "runs" / "sweeps" / "straight"
    for cell in CELLS:
        model = yaml.safe_load((folder / cell / "config.yaml").read_text())["model"]
        assert f"positions={model['positions']['name']}" == cell
        losses = [line["loss"] for line in read_lines(folder / cell / "metrics.jsonl") if "loss" in line]
        assert losses[-1] < losses[0] - 1

    command = [sys.executable, str(ROOT / "train.py"), *SWEEP, "sweep.name=cut"]
    process = subprocess.Popen(command, cwd=workplace, env=ONE_THREAD, stdout=subprocess.PIPE, text=True)
    cut = folder.with_name("cut")
    metrics = cut / CELLS[0] / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 1):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    jobs = json.loads((cut / "sweep.json").read_text())["jobs"]
    assert [job["status"] for job in jobs] == ["stopped", "pending"]
    assert not (cut / CELLS[1]).exists()
    assert 0 < json.loads((cut / CELLS[0] / "summary.json").read_text())["steps"] < 40

    (typed,) = re.findall(r"to continue, type: python (.*)", shown)
    script, *overrides = shlex.split(typed)
    run_in(workplace, script, *overrides)
    assert final_losses(cut) == final_losses(folder)
    assert set(final_losses(cut)) == set(CELLS)
