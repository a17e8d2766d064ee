"""Stands for ``train.py`` in tests of sweeps: takes steps, saves, resumes, and fails where a test has planted it.

``fail`` or ``kill`` in the run directory: this attempt ends with an error or by SIGKILL, and removes the file.
``diverge``: it ends as a run that diverged. ``crash``: this attempt ends with a traceback.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

STEPS = 5

settings = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
run_dir = Path(settings["run_dir"].strip("'"))
stopped = False


def stop(number, frame):
    global stopped
    stopped = True


def finish(status, loss=None):
    (run_dir / "summary.json").write_text(json.dumps({"status": status, "val_loss": loss}))


signal.signal(signal.SIGTERM, stop)
state = run_dir / "state.json"
loss, step = json.loads(state.read_text()) if state.exists() else (1.0, 0)
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
start = {"arguments": sys.argv[1:], "step": step, "cores": cores, "threads": os.environ.get("OMP_NUM_THREADS"),
         "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "began": time.time()}  # fmt: skip
while step < STEPS:
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0.02")))
    step += 1
    loss = loss * 0.9 + float(settings.get("optimizer.lr", "0.001")) * step
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "loss": loss}) + "\n")
    for planted in ("fail", "kill", "crash"):
        if step == 2 and (run_dir / planted).exists():
            (run_dir / planted).unlink()
            state.write_text(json.dumps([loss, step]))
            if planted == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if planted == "crash":
                raise ValueError("crashed")
            print("error: planted")
            sys.exit(2)
    if (run_dir / "diverge").exists():
        reason = "step 3: loss nan; 4 steps in a row: training diverged; try a lower optimizer.lr"
        finish(f"failed: {reason}")
        print(f"error: {reason}")
        sys.exit(2)
    if stopped:
        state.write_text(json.dumps([loss, step]))
        finish("stopped")
        sys.exit(143)
if "optimizer.lr" in settings:
    loss = 2.0 + (float(settings["optimizer.lr"]) * 100 - 0.3) ** 2
finish("completed", loss)
with (run_dir / "starts.jsonl").open("a") as file:
    file.write(json.dumps(start | {"ended": time.time()}) + "\n")
