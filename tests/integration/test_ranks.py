"""Several gloo processes on this machine against one: the same numbers, the same files, the same ends."""

import functools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gpt2lab.runs import read_lines
from tests.integration.conftest import ONE_THREAD, ROOT, TINY, copy_corpus, run_in, run_processes, run_ranks

pytestmark = pytest.mark.slow
SETTINGS = [*TINY, "runtime.precision=fp32", "training.log_every=1", "training.eval_tokens=3968"]


def values_of(run_dir, name):
    return [line[name] for line in read_lines(run_dir / "metrics.jsonl") if name in line]


def weights(run_dir):
    return load_file(run_dir / "checkpoints" / "last" / "model.safetensors")


def test_two_processes_are_one(run, workplace):
    """Rows in the same batches: 2 x 2 micro-batches of 4 sequences against 4 of them."""
    settings = [*SETTINGS, "training.max_steps=10", "training.micro_batch_size=4", "training.eval_every=5"]
    settings.append("optimizer.eps=1e-3")  # with a small one, Adam makes whole steps of what is rounding in a gradient
    run("train.py", *settings, "run_dir=one")
    result = run_ranks(workplace, "train.py", 2, *settings, "run_dir=two")
    assert "4 sequences x 64 tokens x 2 micro-batches x 2 processes" in result.stdout
    one, two = workplace / "one", workplace / "two"
    for name in ("loss", "grad_norm", "val_loss"):
        assert len(values_of(one, name)) == len(values_of(two, name)) == (2 if name == "val_loss" else 10)
        assert values_of(two, name) == pytest.approx(values_of(one, name), rel=1e-5), name
    # 62 validation windows in batches of 4: one process scores a batch more than the other
    assert json.loads((two / "summary.json").read_text())["val_tokens"] == 3968
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[name], tensor, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(workplace, before, after):
    """With dropout on the same number, bit for bit; on another number the same batches, without dropout."""
    dropout = 0.2 if before == after else 0.0
    settings = [*SETTINGS, f"model.dropout={dropout}", "training.max_steps=8", "training.checkpoint_every=4"]
    run_ranks(workplace, "train.py", before, *settings, "run_dir=straight")
    shutil.copytree(workplace / "straight", workplace / "resumed", symlinks=True)
    for link in ("last", "best"):
        (workplace / "resumed" / "checkpoints" / link).unlink()
    (workplace / "resumed" / "checkpoints" / "step_00000008").rename(workplace / "resumed" / "gone")
    run_ranks(workplace, "train.py", after, *settings, "run_dir=resumed", "resume=auto")
    straight, resumed = workplace / "straight", workplace / "resumed"
    assert [line["step"] for line in read_lines(resumed / "metrics.jsonl") if "loss" in line] == list(range(1, 9))
    if before == after:
        assert values_of(resumed, "loss") == values_of(straight, "loss")
        assert all(torch.equal(weights(resumed)[name], tensor) for name, tensor in weights(straight).items())
    else:
        assert values_of(resumed, "loss") == pytest.approx(values_of(straight, "loss"), rel=1e-5)


def test_sweep_starts_the_processes_of_each_job(run, workplace):
    settings = ["training.max_steps=2", "seed=1,2", "runtime.num_processes=2", "sweep.name=s"]
    common = [setting for setting in TINY if not setting.startswith("training.eval_tokens")]
    run("train.py", "-m", *common, "training.eval_tokens=3968", *settings)
    for seed in (1, 2):
        run_dir = workplace / "runs" / "sweeps" / "s" / f"seed={seed}"
        assert json.loads((run_dir / "summary.json").read_text())["processes"] == 2
        assert f"seed: {seed}\n" in (run_dir / "config.yaml").read_text()


def torchrun(folder, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]
    return subprocess.run(command, cwd=folder, env=ONE_THREAD, capture_output=True, text=True, check=False)


def test_torchrun_makes_one_run(workplace):
    result = torchrun(workplace, ROOT / "train.py", *SETTINGS, "training.max_steps=2")
    assert result.returncode == 0, result.stderr
    (metrics,) = workplace.glob("runs/*/*/metrics.jsonl")
    assert len(values_of(metrics.parent, "loss")) == 2
    assert result.stdout.count("run directory") == 2  # header and closing table


def test_a_sweep_under_torchrun_is_refused(workplace):
    result = torchrun(workplace, ROOT / "train.py", "-m", *SETTINGS, "seed=1,2")
    assert result.returncode != 0
    assert "train.py -m runtime.num_processes=2 and your other arguments" in result.stderr
    assert not (workplace / "runs").exists()


PLANTED = """
import os, signal
import torch
from gpt2lab.training.trainer import Trainer
from gpt2lab.training.update import Update
from gpt2lab.training.validator import Validator
{fault}
from gpt2lab.cli.main import run_command
run_command("train")
"""


def run_with_fault(folder, fault, *settings):
    """The results of two processes whose training has ``fault`` planted."""
    (folder / "planted.py").write_text(PLANTED.format(fault=fault))
    return run_processes(
        folder, folder / "planted.py", *SETTINGS, "run_dir=run", "training.max_steps=9", *settings, number=2
    )


RAISING = """
step = Trainer.launch_step
def raising(self, number):
    if number == 3 and self.world.rank == 1:
        raise RuntimeError("planted on one process")
    return step(self, number)
Trainer.launch_step = raising
"""


def test_a_process_that_raises_ends_the_job(workplace):
    run_in(workplace, "prepare.py", *TINY[:4])
    (workplace / "planted.py").write_text(PLANTED.format(fault=RAISING))
    started = time.monotonic()
    result = torchrun(workplace, "planted.py", *SETTINGS, "run_dir=run", "training.max_steps=9")
    assert result.returncode != 0
    assert "RuntimeError: planted on one process" in result.stderr
    assert time.monotonic() - started < 60
    assert len(values_of(workplace / "run", "loss")) == 3


NONFINITE_GRADIENT = """
gradients = Update._backward
def poisoned(self, batch, before_micro_batch):
    poison = None
    if self.world.rank == 1 and poisoned.calls in (2, 5):
        poison = next(self.model.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    poisoned.calls += 1
    loss = gradients(self, batch, before_micro_batch)
    if poison:
        poison.remove()
    return loss
poisoned.calls = 0
Update._backward = poisoned
run = Trainer.run
def checked(self):
    result = run(self)
    for parameter in self.model.parameters():
        of_main = parameter.detach().clone()
        torch.distributed.broadcast(of_main, src=0)
        assert torch.equal(of_main, parameter) and parameter.isfinite().all()
    assert self.state.skipped_steps == 2, self.state
    return result
Trainer.run = checked
"""


def test_nonfinite_gradient_in_one_process_is_skipped_in_all(workplace):
    result, other = run_with_fault(workplace, NONFINITE_GRADIENT)
    assert result.returncode == other.returncode == 0, result.stderr + other.stderr
    assert result.stdout.count("skipped (") == 2
    assert json.loads((workplace / "run" / "summary.json").read_text())["skipped_steps"] == 2
    norms = values_of(workplace / "run", "grad_norm")
    assert [norm is None for norm in norms] == [step in (2, 5) for step in range(9)]


FREED = """
import gc
destroy = torch.distributed.destroy_process_group
def checked():
    wrapped = torch.nn.parallel.DistributedDataParallel
    assert not [value for value in gc.get_objects() if isinstance(value, wrapped)], "DDP still refers to the group"
    print("left without DDP")
    destroy()
torch.distributed.destroy_process_group = checked
"""


def test_ddp_is_freed_before_the_processes_leave(workplace):
    """Else the process hangs at its end, now and then: see ``close_world``."""
    for result in run_with_fault(workplace, FREED):
        assert result.returncode == 0, result.stderr
        assert "left without DDP" in result.stdout


SIGNAL_IN_EVALUATION = """
own_batches = Validator._own_batches
def signaled(self, before_batch):
    for number, batch in enumerate(own_batches(self, before_batch)):
        if number == 2 and self.world.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        assert number < 3, "went on"
        yield batch
Validator._own_batches = signaled
"""


def test_a_signal_to_one_process_in_evaluation_saves_and_ends(workplace):
    settings = ["training.eval_every=4", "training.checkpoint_every=0", "training.micro_batch_size=2"]
    result, other = run_with_fault(workplace, SIGNAL_IN_EVALUATION, *settings)
    assert result.returncode == other.returncode == 143
    assert "stopped by SIGTERM at step 4, which is saved" in result.stderr
    assert "Traceback" not in result.stderr + other.stderr
    assert json.loads((workplace / "run" / "summary.json").read_text())["status"] == "stopped"
    more = [*SETTINGS, *settings, "training.max_steps=9"]
    run_ranks(workplace, "train.py", 2, *more, "run_dir=run", "resume=auto")
    run_ranks(workplace, "train.py", 2, *more, "run_dir=straight")
    for name in ("loss", "val_loss"):
        assert values_of(workplace / "run", name) == values_of(workplace / "straight", name)


SIGNAL_SETTINGS = [*SETTINGS, "training.max_steps=30", "training.checkpoint_every=0"]


@pytest.fixture(scope="module")
def straight_weights(tmp_path_factory):
    """Of runs that no signal stopped, by the number of their processes."""

    def train(processes):
        folder = tmp_path_factory.mktemp("straight")
        copy_corpus(folder)
        run_ranks(folder, "train.py", processes, *SIGNAL_SETTINGS, "run_dir=run")
        return weights(folder / "run")

    return functools.cache(train)


SIGNAL = """
import time
step = Trainer.launch_step
def signaled(self, number):
    if number == 10 and self.world.is_main:
        os.kill({receiver}, {number})
        time.sleep(1)  # until the launcher has passed it on
    return step(self, number)
Trainer.launch_step = signaled
"""


@pytest.mark.parametrize(
    ("processes", "number", "status"),
    [(1, signal.SIGHUP, 129), (2, signal.SIGTERM, 143), (2, signal.SIGUSR1, 138)],
)
def test_a_signal_saves_and_ends(straight_weights, workplace, processes, number, status):
    """Then the run continues and ends as one that was never stopped."""
    settings = [*SIGNAL_SETTINGS, f"runtime.num_processes={processes}", "run_dir=run"]
    receiver = "os.getpid()" if processes == 1 else "os.getppid()"  # the launcher
    (workplace / "planted.py").write_text(PLANTED.format(fault=SIGNAL.format(receiver=receiver, number=int(number))))
    result = subprocess.run(
        [sys.executable, "planted.py", *settings],
        cwd=workplace, env=ONE_THREAD | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup has SIGHUP ignored
    )  # fmt: skip
    assert result.returncode == status
    assert f"stopped by {number.name}" in result.stderr
    assert "Traceback" not in result.stderr
    saved = json.loads((workplace / "run" / "checkpoints" / "last" / "checkpoint.json").read_text())["step"]
    assert 10 <= saved < 30
    assert json.loads((workplace / "run" / "summary.json").read_text())["status"] == "stopped"
    run_ranks(workplace, "train.py", processes, *SIGNAL_SETTINGS, "run_dir=run", "resume=auto")
    resumed = weights(workplace / "run")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in straight_weights(processes).items())


def test_processes_die_with_the_launcher(workplace):
    command = [sys.executable, ROOT / "train.py", *SETTINGS, "training.max_steps=100_000", "run_dir=run"]
    launcher = subprocess.Popen([*command, "runtime.num_processes=2"], cwd=workplace, env=ONE_THREAD)
    metrics = workplace / "run" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 5):
        time.sleep(0.02)
    ranks = children(launcher.pid)
    assert len(ranks) == 2
    launcher.kill()
    launcher.wait()
    deadline = time.monotonic() + 10
    while any(is_running(rank) for rank in ranks):
        assert time.monotonic() < deadline, "orphans"
        time.sleep(0.05)


SEVERAL_RUNS = """
import sys
from gpt2lab.cli.compose import compose_config
from gpt2lab.commands.training import train
for number, parallel in enumerate(("ddp", "fsdp", "ddp")):
    train(compose_config("train", [*sys.argv[1:], f"run_dir={number}", f"runtime.parallel={parallel}"]))
"""


def test_one_python_process_trains_several_times(workplace):
    """Under torchrun, whose store of addresses outlives a run."""
    (workplace / "runs.py").write_text(SEVERAL_RUNS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "runs.py"]
    result = subprocess.run(
        [*command, *SETTINGS, "training.max_steps=2"],
        cwd=workplace, env=ONE_THREAD | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    losses = [values_of(workplace / number, "loss") for number in "012"]
    assert losses[0] == losses[2] == pytest.approx(losses[1], rel=1e-5)


def children(parent):
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def is_running(pid):
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_processes_print_a_mistake_once(workplace):
    command = [sys.executable, ROOT / "train.py", *SETTINGS, "runtime.num_processes=2", "data.files=[missing.txt]"]
    result = subprocess.run(command, cwd=workplace, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("error") == 1, result.stderr
