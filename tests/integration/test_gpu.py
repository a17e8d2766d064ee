"""What needs a CUDA GPU: skipped where there is none."""

import functools
import json
import os

import pytest
import torch

from gpt2lab.config import (
    ModelConfig,
    OptimizerConfig,
    PositionsConfig,
    RuntimeConfig,
    SamplingConfig,
    TrainingConfig,
)
from gpt2lab.evaluation.device_batches import TensorBatch
from gpt2lab.generation import decoder, generate
from gpt2lab.generation.decoder import KEYS_MULTIPLE, Decoder
from gpt2lab.model import GPT, Layout
from gpt2lab.model.loss import objective_sum, target_nll
from gpt2lab.runs import read_lines
from gpt2lab.runtime import open_runtime
from gpt2lab.training.loss_scale import LossScale
from gpt2lab.training.optimizer import Optimizers, adamw
from gpt2lab.training.parallel import ParallelStrategy
from gpt2lab.training.state import TrainState
from gpt2lab.training.throughput import peak_flops
from gpt2lab.training.update import Update
from tests.integration.conftest import TINY, run_in

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")]
ON_GPU = [*TINY, "runtime.device=cuda", "training.log_every=1", "training.max_steps=12", "training.checkpoint_every=4"]
TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs here")


@pytest.fixture
def run(workplace):
    """``run_in`` the workplace, with the GPUs that other tests do not see."""
    all_gpus = ",".join(map(str, range(torch.cuda.device_count())))
    gpus = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", all_gpus)}
    return functools.partial(run_in, workplace, environment=gpus)


def losses(run_dir):
    return [line["loss"] for line in read_lines(run_dir / "metrics.jsonl") if "loss" in line]


def test_logits_are_those_of_the_cpu():
    model = GPT(ModelConfig(n_layer=4, n_head=4, n_embd=128, vocab_size=1000)).eval()
    tokens = torch.randint(1000, (2, 64))
    with torch.inference_mode():
        expected = model(tokens)
        found = model.cuda()(tokens.cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("positions", ["learned", "rope", "alibi"])
def test_tokens_of_recorded_steps_are_those_of_the_cpu(positions, monkeypatch):
    """Several CUDA graphs on the GPU, slots that are refilled, and rows that outgrow the context."""
    monkeypatch.setattr(decoder, "KEYS_MULTIPLE", 16)
    positions = PositionsConfig(positions)
    config = ModelConfig(n_layer=4, n_head=4, n_embd=128, block_size=64, vocab_size=1000, positions=positions)
    model = GPT(config).eval()
    prompts = [[1], [2, 3, 4], list(range(80)), [5] * 20, [6, 7]]
    for sampling in (
        SamplingConfig(temperature=0, max_new_tokens=70, batch_size=2),
        SamplingConfig(top_p=0.9, max_new_tokens=70, batch_size=3),
    ):
        runtimes = [open_runtime(RuntimeConfig(device=device, precision="fp32")) for device in ("cpu", "cuda")]
        outputs = [
            generate(model.to(runtime.device), prompts, sampling, eot_id=0, runtime=runtime) for runtime in runtimes
        ]
        assert outputs[0] == outputs[1]


@torch.inference_mode()
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.03), ("fp16", 0.01)])
def test_recorded_steps_compute_what_others_do(precision, tolerance):
    """In each precision, over two bounds of the columns that a graph attends to, for slots of different lengths."""
    runtime = open_runtime(RuntimeConfig(device="cuda", precision=precision))
    model = GPT(ModelConfig(n_layer=4, n_head=4, n_embd=128, block_size=3 * KEYS_MULTIPLE, vocab_size=1000))
    model = model.eval().to(runtime.device)
    texts = [torch.randint(1000, (length,)).tolist() for length in (2 * KEYS_MULTIPLE - 4, 5)]
    recorded, plain = (Decoder(model, runtime, slots=2, capacity=3 * KEYS_MULTIPLE) for _ in range(2))
    for each in (recorded, plain):
        each.read_prompts([0, 1], texts)
    for token in range(8):
        tokens, positions = [token, token + 1], [len(text) + token for text in texts]
        logits = recorded.step(tokens, positions).clone()
        tensors = (torch.tensor(numbers, device=runtime.device) for numbers in (tokens, positions))
        expected = plain.step_on_device(*tensors, max(positions) + 1, aligned=False)
        assert (logits - expected).norm() < tolerance * expected.norm()
    assert len(recorded.graphs) == 2


@TWO_GPUS
def test_models_on_two_gpus_decode_beside_each_other():
    """Neither the current device nor the one that was recorded on first matters."""
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=64, block_size=64, vocab_size=1000)).eval()
    sampling = SamplingConfig(temperature=0, max_new_tokens=30)
    with torch.cuda.device(0):  # which is the current one again afterwards
        outputs = []
        for order in (["cpu", "cuda:0", "cuda:1"], ["cuda:1", "cuda:0"]):
            runtimes = [open_runtime(RuntimeConfig(device=device, precision="fp32")) for device in order]
            outputs += [
                generate(model.to(runtime.device), [[1, 2, 3]], sampling, eot_id=0, runtime=runtime)
                for runtime in runtimes
            ]
    assert outputs == outputs[:1] * 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_vocabulary_loss_is_that_of_float64(dtype):
    """Logits near -100; weight gradients are summed in float32 over groups."""
    hidden, weight = torch.randn(3000, 64, device="cuda"), torch.randn(50_257, 64, device="cuda")
    hidden[:, 0], weight[:, 0] = 10, -10
    sides = [side.to(dtype).float().requires_grad_() for side in (hidden, weight)]
    targets = torch.randint(50_257, (3000,), device="cuda")
    exact_sides = [side.detach().double().requires_grad_() for side in sides]
    exact = torch.nn.functional.cross_entropy(exact_sides[0] @ exact_sides[1].t(), targets, reduction="sum")
    with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
        objective, nll = objective_sum(*sides, targets, 50_257)
        terms = target_nll(sides[0].detach(), sides[1].detach(), targets, 50_257)
    assert nll.item() == pytest.approx(exact.item(), rel=1e-5 if dtype == torch.float32 else 1e-3)
    assert terms.double().sum().item() == pytest.approx(nll.item(), rel=1e-5)
    gradients = torch.autograd.grad(objective, sides), torch.autograd.grad(exact, exact_sides)
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).norm() < (1e-4 if dtype == torch.float32 else 2e-2) * theirs.norm()


def test_float32_is_not_rounded_unless_asked():
    factors = torch.randn(2, 256, 256, dtype=torch.float64)
    exact = factors[0] @ factors[1]
    errors = []
    for tf32 in (False, True):
        open_runtime(RuntimeConfig(device="cuda", precision="fp32", tf32=tf32))
        product = factors[0].float().cuda() @ factors[1].float().cuda()
        errors.append((product.cpu().double() - exact).abs().max().item())
    open_runtime(RuntimeConfig(device="cuda", precision="fp32"))
    assert errors[0] < 1e-3 < errors[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_host_does_not_wait_in_a_step(precision):
    """A step whose micro-batches are rows of packed documents, with dropout, clipping and z-loss."""
    runtime = open_runtime(RuntimeConfig(device="cuda", precision=precision))
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=64, block_size=64, vocab_size=1000, dropout=0.1)).cuda()
    optimizer = Optimizers(adamw(model, OptimizerConfig(), lr=1e-3))
    settings = TrainingConfig(max_steps=9, z_loss=1e-4)
    update = Update(model, optimizer, TrainState(LossScale(runtime)), settings, 2, 0, runtime, ParallelStrategy())
    ids = torch.randint(1000, (4, 65)).cuda()
    halves = Layout(torch.arange(32).repeat(4, 2).cuda(), torch.arange(2).repeat_interleave(32).repeat(4, 1).cuda())
    batch = TensorBatch(ids[:, :-1], ids[:, 1:], halves, ids[:, 1:].numel())
    update(0, batch, 1.0).read()  # the first step allocates what later ones have
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = [update(step, batch, 1.0) for step in (1, 2)]
        with pytest.raises(RuntimeError, match="synchronizing"):
            results[-1].read()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert results[-1].read().is_finite


@pytest.mark.parametrize(
    "settings",
    [
        ["runtime.precision=fp32"],
        ["runtime.precision=bf16"],
        ["runtime.precision=fp16"],
        ["runtime.compile=true"],
        ["runtime.activation_checkpointing=true"],
        ["runtime.compile=true", "runtime.activation_checkpointing=true"],
        ["runtime.deterministic=true"],
        ["optimizer=muon"],
        ["data.document_masking=true"],
        ["data.packing=documents", "model.n_kv_head=1"],
        ["model/positions=alibi"],
    ],
    ids="-".join,
)
def test_training_goes_as_on_the_cpu(run, workplace, settings):
    run("train.py", *ON_GPU, *settings, "run_dir=gpu")
    run(
        "train.py",
        *ON_GPU,
        *settings,
        "runtime.device=cpu",
        "runtime.precision=fp32",
        "runtime.compile=false",
        "run_dir=cpu",
    )
    assert losses(workplace / "gpu") == pytest.approx(losses(workplace / "cpu"), rel=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_resumed_steps_are_those_of_the_straight_run(run, workplace, precision):
    settings = [*ON_GPU, f"runtime.precision={precision}", "model.dropout=0.1"]
    run("train.py", *settings, "run_dir=straight")
    run("train.py", *settings, "run_dir=resumed", "training.max_steps=12")
    for link in ("last", "best"):
        (workplace / "resumed" / "checkpoints" / link).unlink()
    (workplace / "resumed" / "checkpoints" / "step_00000012").rename(workplace / "gone")
    run("train.py", *settings, "run_dir=resumed", "resume=auto")
    assert losses(workplace / "resumed") == pytest.approx(losses(workplace / "straight"), rel=1e-4)


def test_deterministic_runs_are_equal_to_the_bit(run, workplace):
    for name in ("one", "two"):
        run("train.py", *ON_GPU, "runtime.deterministic=true", "model.dropout=0.1", f"run_dir={name}")
    assert losses(workplace / "one") == losses(workplace / "two")


@TWO_GPUS
def test_two_gpus_are_one(run, workplace):
    settings = [*ON_GPU, "runtime.precision=fp32", "training.micro_batch_size=4", "optimizer.eps=1e-3"]
    run("train.py", *settings, "run_dir=one")
    run("train.py", *settings, "run_dir=two", "runtime.num_processes=2")
    assert losses(workplace / "two") == pytest.approx(losses(workplace / "one"), rel=1e-4)


def test_more_processes_than_gpus_are_a_user_error(run):
    processes = torch.cuda.device_count() + 1
    with pytest.raises(AssertionError, match="each process needs one"):
        run(
            "train.py",
            *ON_GPU,
            f"runtime.num_processes={processes}",
            f"training.batch_tokens={64 * processes}",
            "training.micro_batch_size=1",
        )


def test_utilization_is_in_the_record(run, workplace):
    run("train.py", *ON_GPU, "run_dir=run", "runtime.precision=bf16")
    lines = [line for line in read_lines(workplace / "run" / "metrics.jsonl") if "loss" in line]
    known = peak_flops(torch.device("cuda"), "bf16") is not None
    assert all(("mfu" in line) == known for line in lines)
    assert json.loads((workplace / "run" / "summary.json").read_text())["peak_memory_bytes"] > 0
    print(lines[-1])


def test_out_of_memory_says_what_to_type(run):
    """Weights and optimizer take 4 GB. The block's input is 2^36 bytes, and what it keeps about 600 GB."""
    model = ["model.n_embd=4096", "model.n_head=32", "model.n_layer=1", "model.block_size=8192"]
    batch = ["training.batch_tokens=4194304", "training.micro_batch_size=512", "training.eval_tokens=8192"]
    with pytest.raises(AssertionError, match=r"out of memory in a forward pass .*training.micro_batch_size=256,"):
        run("train.py", *ON_GPU, *model, *batch)
