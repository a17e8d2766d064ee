"""FSDP on two gloo processes against one process: the same losses, checkpoints for both, smaller processes."""

import json
import re
import shutil

import pytest
import torch

from gpt2lab.runs import read_lines
from tests.integration.conftest import TINY, run_in, run_ranks
from tests.integration.test_ranks import SETTINGS, values_of, weights

pytestmark = pytest.mark.slow
FSDP = "runtime.parallel=fsdp"
TEN_STEPS = [
    *SETTINGS, "training.max_steps=10", "training.micro_batch_size=4", "training.eval_every=5",
    "training.checkpoint_every=5", "training.keep_checkpoints=2", "training.grad_clip=0.5", "samples.every=1",
]  # fmt: skip

OPTIMIZERS = {"adamw": ["optimizer=adamw", "optimizer.eps=1e-3"], "muon": ["optimizer=muon", "optimizer.eps=1e-3"]}


def resume_at_five(workplace, source, name, processes, *settings):
    """Resume a copy of a run from its checkpoint of step 5; return the copy."""
    folder = workplace / name
    shutil.copytree(workplace / source, folder, symlinks=True)
    for link in ("last", "best"):
        (folder / "checkpoints" / link).unlink()
    shutil.rmtree(folder / "checkpoints" / "step_00000010")
    run_ranks(workplace, "train.py", processes, *settings, f"run_dir={name}", "resume=auto")
    return folder


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fsdp_trains_as_one_process_and_resumes_anywhere(workplace, optimizer):
    settings = [*TEN_STEPS, *OPTIMIZERS[optimizer]]
    run_in(workplace, "train.py", *settings, "run_dir=one")
    run_ranks(workplace, "train.py", 2, *settings, "run_dir=fsdp", FSDP)
    runs = [
        workplace / "fsdp",
        resume_at_five(workplace, "one", "one_to_fsdp", 2, *settings, FSDP),
        resume_at_five(workplace, "fsdp", "fsdp_to_one", 1, *settings),
        resume_at_five(workplace, "fsdp", "fsdp_to_ddp", 2, *settings),
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


def test_fsdp_resumed_equals_a_straight_run_bit_for_bit(workplace):
    settings = [*TEN_STEPS, *OPTIMIZERS["muon"], FSDP, "model.dropout=0.1"]
    run_ranks(workplace, "train.py", 2, *settings, "run_dir=straight")
    resumed = resume_at_five(workplace, "straight", "resumed", 2, *settings)
    assert values_of(resumed, "loss") == values_of(workplace / "straight", "loss")
    assert all(torch.equal(weights(resumed)[name], t) for name, t in weights(workplace / "straight").items())


DTYPES = """
import atexit, json, os, sys
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from gpt2lab.model.gpt import Block, GPT
seen = {}
def record(name, tensor):
    seen.setdefault(name, set()).add(str(tensor.dtype).removeprefix("torch."))
block_forward, hidden = Block.forward, GPT.hidden
def recording_block(self, x_BTC, *more):
    if not self.training:
        return block_forward(self, x_BTC, *more)
    y_BTC = block_forward(self, x_BTC, *more)
    for name, tensor in (("block input", x_BTC), ("block output", y_BTC), *self.named_parameters()):
        record(name, tensor)
    return y_BTC
def recording_hidden(self, *given, **more):
    if self.training:
        record("embedding", self.wte.weight)
        record("last norm", self.norm_f.weight)
    return hidden(self, *given, **more)
Block.forward, GPT.hidden = recording_block, recording_hidden
name = next(name for name in ("reduce_scatter_single", "reduce_scatter_tensor") if hasattr(torch.distributed, name))
reduce_scatter = getattr(torch.distributed, name)
def recording_reduce_scatter(*given, **named):
    record("sent gradient", named["input"] if "input" in named else given[1])
    return reduce_scatter(*given, **named)
setattr(torch.distributed, name, recording_reduce_scatter)
def before_step(optimizer, *_):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            record("master weight", parameter)
            record("gradient", parameter.grad)
register_optimizer_step_pre_hook(before_step)
@atexit.register
def write():
    with open(f"dtypes{os.environ['RANK']}.json", "w") as file:
        json.dump({name: sorted(dtypes) for name, dtypes in seen.items()}, file)
sys.argv[0] = "train.py"
from gpt2lab.cli.main import run_command
run_command("train")
"""


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_fsdp_sends_bf16_weights_and_float32_gradients(workplace, norm):
    """The mixed precision of FSDP, and the losses that DDP has under autocast, to the rounding of bf16."""
    (workplace / "dtypes.py").write_text(DTYPES)
    variants = [f"model/norm={norm}", "model/mlp=swiglu", "model.qk_norm=true"]
    settings = [*TEN_STEPS, *OPTIMIZERS["adamw"], *variants, "runtime.precision=bf16"]
    run_ranks(workplace, "train.py", 2, *settings, "run_dir=ddp")
    run_ranks(workplace, workplace / "dtypes.py", 2, *settings, "run_dir=fsdp", FSDP)
    for rank in (0, 1):
        seen = json.loads((workplace / f"dtypes{rank}.json").read_text())
        wide = {"block input", "block output", "embedding", "last norm", "sent gradient", "master weight", "gradient"}
        assert {name for name, dtypes in seen.items() if dtypes == ["float32"]} == wide
        narrow = {name for name, dtypes in seen.items() if dtypes == ["bfloat16"]}
        assert narrow | wide == seen.keys()
        assert {"attn.c_attn.weight", "attn.q_norm.weight", "mlp.c_proj.weight", "norm_1.weight"} < narrow
    for name, tolerance in (("loss", 1e-4), ("val_loss", 1e-4), ("grad_norm", 1e-3)):
        ddp, fsdp = (values_of(workplace / run_dir, name) for run_dir in ("ddp", "fsdp"))
        assert fsdp == pytest.approx(ddp, rel=tolerance), name


MEASURED = """
import atexit, gc, os, sys
import torch
from torch.distributed.tensor import DTensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from gpt2lab.checkpoint.parts import tensor_bytes
from gpt2lab.training.trainer import Trainer
peak = 0
def sample(*_):
    global peak
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    tensors += [tensor.grad for tensor in tensors if tensor.is_leaf and tensor.grad is not None]
    own = [t.to_local() if isinstance(t, DTensor) else t for t in tensors if t.device.type == "cpu"]
    storages = [tensor.untyped_storage() for tensor in own]
    peak = max(peak, sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values()))
register_optimizer_step_pre_hook(sample)
register_optimizer_step_post_hook(sample)
def before_module(module, _):
    if "Block" in type(module).__name__ and module.training:
        sample()
register_module_forward_pre_hook(before_module)
validate = Trainer._validate
Trainer._validate = lambda self, model: (sample(), validate(self, model))[1]
def save(self, *, best):  # rank 0 gathers the state in the host's memory, which is not a GPU's
    with open(f"state{os.environ['RANK']}.txt", "w") as file:
        file.write(str(sum(map(tensor_bytes, self.checkpoints._states().values()))))
Trainer._save = save
atexit.register(lambda: open(f"peak{os.environ['RANK']}.txt", "w").write(str(peak)))
sys.argv[0] = "train.py"
from gpt2lab.cli.main import run_command
run_command("train")
"""


def peak_bytes(workplace, parallel):
    """The most bytes of tensors that either of two processes held before a block, around a step or in validation.

    Counted over all living tensors: PyTorch's memory profiler misses what gloo's threads free.
    """
    (workplace / "measured.py").write_text(MEASURED)
    size = ["model.n_layer=6", "model.n_embd=256", "training.batch_tokens=256", "training.micro_batch_size=1"]
    settings = [*TINY, "runtime.precision=fp32", *size, "training.eval_tokens=3968", "training.max_steps=3"]
    settings += [f"run_dir={parallel}", f"runtime.parallel={parallel}"]
    run_ranks(workplace, workplace / "measured.py", 2, *settings)
    return max(int((workplace / f"peak{rank}.txt").read_text()) for rank in (0, 1))


def test_fsdp_holds_fewer_bytes_of_tensors_than_ddp(workplace):
    run_in(workplace, "prepare.py", *TINY[:4])
    ddp, fsdp = peak_bytes(workplace, "ddp"), peak_bytes(workplace, "fsdp")
    assert ddp > 16 * 4_700_000  # float32 weights, gradients and two moments
    print(f"{fsdp:,} against {ddp:,}")
    # 0.62 where blocks stay whole from forward to backward
    assert fsdp < 0.55 * ddp, f"{fsdp:,} against {ddp:,}"
    states = [int((workplace / f"state{rank}.txt").read_text()) for rank in (0, 1)]
    assert states[0] > 12 * 4_700_000  # weights and moments
    assert states[1] < 10_000  # it writes no checkpoint, and keeps nothing of one


def peak_memory(workplace, name, *settings):
    """The most resident memory of rank 0 in MB at any time before a checkpoint, by ``fsdp_memory``."""
    few_tokens = ["training.batch_tokens=256", "training.micro_batch_size=1", "training.eval_tokens=1024"]
    settings = [*TINY, "runtime.precision=fp32", *few_tokens, "training.max_steps=3", *settings, f"run_dir={name}"]
    printed = run_ranks(workplace, "tests/integration/fsdp_memory.py", 2, *settings).stderr
    assert "forward and backward" in printed
    return max(int(peak) for peak in re.findall(r"(\d+) \(\d+\)", printed))


def test_fsdp_processes_are_smaller_than_those_of_ddp(workplace):
    """Above the memory of a tiny run, which is that of Python and its libraries."""
    run_in(workplace, "prepare.py", *TINY[:4])
    size = ["model.n_layer=8", "model.n_embd=384"]
    ddp, fsdp = (peak_memory(workplace, name, *size, f"runtime.parallel={name}") for name in ("ddp", "fsdp"))
    tiny = peak_memory(workplace, "tiny", FSDP)
    print(f"{fsdp} and {ddp} MB, tiny {tiny}")
    assert ddp - tiny > 16 * 14  # 14 million parameters
    assert fsdp - tiny < 0.65 * (ddp - tiny), f"{fsdp} and {ddp} MB, tiny {tiny}"
