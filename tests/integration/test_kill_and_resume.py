"""A run killed at any moment and started again ends with the weights of one that was not."""

import json
import re
import subprocess
import sys
import time

import pytest
import torch

from gpt2lab.checkpoint import newest_complete
from gpt2lab.runs import read_lines
from tests.integration.conftest import ONE_THREAD, ROOT, TINY, run_in
from tests.integration.kill_campaign import campaign, compare


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kills"), [(1, 3), (2, 2)])
def test_killed_and_resumed_is_bit_equal(workplace, processes, kills):
    met = campaign(workplace, processes, steps=40 * kills, kills=kills, seed=time.time_ns())
    assert met.total() == kills


def test_resume_says_what_it_skipped_and_what_changed(run, workplace):
    run("train.py", *TINY, "run_dir=run", "training.max_steps=6", "training.checkpoint_every=2")
    newest = workplace / "run" / "checkpoints" / "step_00000006" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    shown = run("train.py", *TINY, "run_dir=run", "training.max_steps=8", "resume=auto").stdout
    assert "skipped" in shown
    assert "step_00000006/model.safetensors has" in shown
    assert "resumed with another setting: training.max_steps=8 (was 6)" in shown
    assert "step_00000004 at step 4" in shown
    starts = [json.loads((workplace / "run" / f"environment{n}.json").read_text())["start_step"] for n in ("", ".2")]
    assert starts == [0, 4]
    steps = [m["step"] for m in read_lines(workplace / "run" / "metrics.jsonl") if "loss" in m]
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
    run_ids = [
        torch.load(workplace / path / "train_state.pt", weights_only=True)["run_id"]
        for path in ("run/checkpoints/step_00000004", "run/checkpoints/last", "branch/checkpoints/last")
    ]
    assert run_ids[0] == run_ids[1] != run_ids[2]  # what a dashboard knows them by
    assert [m["step"] for m in read_lines(workplace / "branch" / "metrics.jsonl")] == [6, 6]


FULL_DISK = """
mount -t tmpfs -o size={megabytes}m none {disk} || exit 77
"$@"
status=$?
cp -r {disk}/. {saved}
exit $status
"""


def test_a_full_disk_stops_the_run_and_leaves_what_was_saved(workplace):
    """A disk of 2 MB in memory, with room for a few checkpoints."""
    permitted = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], check=False).returncode == 0
    if not permitted:
        pytest.skip("this machine lets nobody mount a disk; tests/unit/checkpoint raises the error instead")
    disk, saved = workplace / "disk", workplace / "saved"
    disk.mkdir()
    saved.mkdir()
    settings = [*TINY, "training.max_steps=12", "training.checkpoint_every=1", "training.keep_checkpoints=9"]
    run_in(workplace, "prepare.py", *TINY[:4])
    script = FULL_DISK.format(megabytes=2, disk=disk, saved=saved)
    train = [sys.executable, ROOT / "train.py", *settings, f"run_dir={disk}"]
    in_namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", *train]
    result = subprocess.run(in_namespace, cwd=workplace, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    line = next(line for line in result.stderr.splitlines() if line.startswith("error"))
    assert re.search(r"the checkpoint of step \d+ was not written \(.*No space left.*\); it needs [\d,]+ bytes", line)
    complete = newest_complete(saved / "checkpoints")
    assert complete is not None
    assert not list((saved / "checkpoints").glob("*.tmp"))
    # with room again, the run resumes as if nothing had happened
    run_in(workplace, "train.py", *settings, f"run_dir={saved}", "resume=auto")
    run_in(workplace, "train.py", *settings, "run_dir=straight")
    compare(workplace / "straight", saved)
