"""FSDP on two gloo processes against one process: the same losses, checkpoints for both, and less memory."""

import shutil
import subprocess
import sys

import pytest
import torch

from gpt2lab.runs import read_lines
from tests.integration.conftest import ONE_THREAD, ROOT, TINY, run_in
from tests.integration.test_ranks import SETTINGS, values_of, weights

pytestmark = pytest.mark.slow
FSDP = ["runtime.parallel=fsdp", "runtime.num_processes=2"]
TEN_STEPS = [
    *SETTINGS, "training.max_steps=10", "training.micro_batch_size=4", "training.eval_every=5",
    "training.checkpoint_every=5", "training.keep_checkpoints=2", "training.grad_clip=0.5", "samples.every=1",
]  # fmt: skip

OPTIMIZERS = {"adamw": ["optimizer=adamw", "optimizer.eps=1e-3"], "muon": ["optimizer=muon", "optimizer.eps=1e-3"]}


def resume_at_five(workplace, source, name, *settings):
    """Resume a copy of a run from its checkpoint of step 5; return the copy."""
    folder = workplace / name
    shutil.copytree(workplace / source, folder, symlinks=True)
    for link in ("last", "best"):
        (folder / "checkpoints" / link).unlink()
    shutil.rmtree(folder / "checkpoints" / "step_00000010")
    run_in(workplace, "train.py", *settings, f"run_dir={name}", "resume=auto")
    return folder


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fsdp_trains_as_one_process_and_resumes_anywhere(run, workplace, optimizer):
    settings = [*TEN_STEPS, *OPTIMIZERS[optimizer]]
    run("train.py", *settings, "run_dir=one")
    run("train.py", *settings, "run_dir=fsdp", *FSDP)
    runs = [
        workplace / "fsdp",
        resume_at_five(workplace, "one", "one_to_fsdp", *settings, *FSDP),
        resume_at_five(workplace, "fsdp", "fsdp_to_one", *settings),
        resume_at_five(workplace, "fsdp", "fsdp_to_ddp", *settings, "runtime.num_processes=2"),
    ]
    one = workplace / "one"
    for run_dir in runs:
        for name in ("loss", "grad_norm", "param_norm", "val_loss"):
            assert len(values_of(run_dir, name)) == len(values_of(one, name)) >= 2
            assert values_of(run_dir, name) == pytest.approx(values_of(one, name), rel=1e-5), (run_dir.name, name)
        assert weights(run_dir).keys() == weights(one).keys()
        for name, tensor in weights(one).items():
            torch.testing.assert_close(weights(run_dir)[name], tensor, rtol=0, atol=1e-5, msg=f"{run_dir.name} {name}")
    assert len(read_lines(workplace / "fsdp" / "samples.jsonl")) == len(read_lines(one / "samples.jsonl"))


def test_fsdp_resumed_equals_a_straight_run_bit_for_bit(run, workplace):
    settings = [*TEN_STEPS, *OPTIMIZERS["muon"], *FSDP, "model.dropout=0.1"]
    run("train.py", *settings, "run_dir=straight")
    resumed = resume_at_five(workplace, "straight", "resumed", *settings)
    assert values_of(resumed, "loss") == values_of(workplace / "straight", "loss")
    assert all(torch.equal(weights(resumed)[name], t) for name, t in weights(workplace / "straight").items())


MEASURED = """
import os, sys
from contextlib import suppress
from torch.profiler import ProfilerActivity, profile
from gpt2lab.training.trainer import Trainer
Trainer._save = lambda self, *, best: None  # rank 0 gathers the state in the host's memory, which is not a GPU's
sys.argv[0] = "train.py"
from gpt2lab.cli.main import run_command
with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler, suppress(SystemExit):
    run_command("train")
events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
peak = total = 0
for event in sorted(events, key=lambda event: event.start_ns()):
    total += event.nbytes()
    peak = max(peak, total)
open(f"peak{os.environ['RANK']}.txt", "w").write(str(peak))
"""


def peak_bytes(workplace, parallel):
    """The most bytes that the tensors of either of two processes took in three steps."""
    (workplace / "measured.py").write_text(MEASURED)
    size = ["model.n_layer=6", "model.n_embd=256", "training.batch_tokens=256", "training.micro_batch_size=1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "measured.py"]
    result = subprocess.run(
        [*command, *TINY, "runtime.precision=fp32", *size, "training.eval_tokens=3968", "training.max_steps=3",
         f"run_dir={parallel}", f"runtime.parallel={parallel}"],
        cwd=workplace, env=ONE_THREAD | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return max(int((workplace / f"peak{rank}.txt").read_text()) for rank in (0, 1))


def test_fsdp_needs_less_memory_than_ddp(workplace):
    run_in(workplace, "prepare.py", *TINY[:4])
    ddp, fsdp = peak_bytes(workplace, "ddp"), peak_bytes(workplace, "fsdp")
    assert ddp > 16 * 4_700_000  # float32 weights, gradients and two moments
    assert fsdp < 0.65 * ddp, f"{fsdp:,} against {ddp:,}"
