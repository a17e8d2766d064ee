"""A run killed at any moment and started again ends with the weights of one that was not."""

import random
import signal
import subprocess
import sys
import time

import pytest

from gpt2lab.training.metrics import read_metrics
from tests.integration.conftest import ONE_THREAD, ROOT, TINY

# dropout, accumulation of two micro-batches, and an epoch boundary every 16 or so steps of the 40,000-token corpus
RUN = [
    *TINY,
    "data.files=[argparse.py]",
    "data.val_fraction=0.2",
    "training.max_steps=200",
    "training.checkpoint_every=7",
    "training.eval_every=20",
    "training.log_every=1",
    "training.micro_batch_size=8",
    "model.dropout=0.1",
]


@pytest.mark.slow
def test_killed_and_resumed_is_bit_equal(run, workplace):
    run("train.py", *RUN, "run_dir=straight")
    moments = random.Random(time.time_ns())
    kills, status = 0, None
    log = (workplace / "stderr.txt").open("w")
    while status != 0:
        command = [sys.executable, ROOT / "train.py", *RUN, "run_dir=killed", "resume=auto"]
        process = subprocess.Popen(command, cwd=workplace, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=log)
        checkpoints = workplace / "killed" / "checkpoints"
        last_before = checkpoints.joinpath("last").resolve()
        try:
            if kills < 4:
                # each process gets past at least one new checkpoint, then dies somewhere in the next steps
                while process.poll() is None and checkpoints.joinpath("last").resolve() == last_before:
                    time.sleep(0.01)
                time.sleep(moments.uniform(0, 0.5))
                process.send_signal(signal.SIGKILL)
            status = process.wait()
            assert status in (0, -signal.SIGKILL), (workplace / "stderr.txt").read_text()
            kills += status == -signal.SIGKILL
        finally:
            process.kill()
    assert kills >= 2
    for name in ("model.safetensors", "optimizer.pt"):
        straight, killed = (
            (workplace / d / "checkpoints" / "last" / name).read_bytes() for d in ("straight", "killed")
        )
        assert straight == killed, f"{name} differs after {kills} kills"
    straight, killed = (read_metrics(workplace / d / "metrics.jsonl") for d in ("straight", "killed"))
    assert [(m["step"], m.get("loss"), m.get("val_loss")) for m in straight] == [
        (m["step"], m.get("loss"), m.get("val_loss")) for m in killed
    ]


def test_resume_says_what_it_skipped_and_what_changed(run, workplace):
    run("train.py", *TINY, "run_dir=run", "training.max_steps=6", "training.checkpoint_every=2")
    newest = workplace / "run" / "checkpoints" / "step_00000006" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    shown = run("train.py", *TINY, "run_dir=run", "training.max_steps=8", "resume=auto").stdout
    assert "skipped" in shown
    assert "step_00000006/model.safetensors has" in shown
    assert "resumed with another setting: training.max_steps=8 (was 6)" in shown
    assert "step_00000004 at step 4" in shown
    steps = [m["step"] for m in read_metrics(workplace / "run" / "metrics.jsonl") if "loss" in m]
    assert steps == sorted(set(steps))


def test_an_older_checkpoint_is_continued_in_a_folder_of_its_own(run, workplace):
    settings = [*TINY, "training.max_steps=6", "training.checkpoint_every=2"]
    run("train.py", *settings, "run_dir=run")
    older = "resume=run/checkpoints/step_00000004"
    with pytest.raises(AssertionError, match="holds step_00000006 besides"):
        run("train.py", *settings, older)
    run("train.py", *settings, older, "run_dir=branch")
    weights = [(workplace / d / "checkpoints" / "last" / "model.safetensors").read_bytes() for d in ("run", "branch")]
    assert weights[0] == weights[1]
    assert [m["step"] for m in read_metrics(workplace / "branch" / "metrics.jsonl")] == [6, 6]
