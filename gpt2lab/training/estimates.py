"""Memory and time of a run, estimated before its first step."""

import math
import time
from dataclasses import dataclass

import torch

from gpt2lab.config import RuntimeConfig
from gpt2lab.model.loss import loss_memory_bytes
from gpt2lab.runtime import DTYPES, Runtime
from gpt2lab.training.plan import RunPlan

TRIAL_SIZE, TRIAL_SECONDS = 768, 0.1
EFFICIENCY = 0.4
"""share of the speed of one matrix product that a whole training step usually reaches"""


@dataclass(frozen=True)
class Estimate:
    """Of the whole run, before its first step."""

    seconds: float
    memory_bytes: int
    """of one process"""


def estimate(plan: RunPlan, config: RuntimeConfig, runtime: Runtime) -> Estimate:
    """Time and memory of the run."""
    return Estimate(seconds(plan, runtime), memory_bytes(plan, config))


def memory_bytes(plan: RunPlan, config: RuntimeConfig) -> int:
    """Memory of one process for training, in bytes: weights, gradients, AdamW's moments, activations and the loss.

    A block keeps about 34 bytes per token and channel in 16 bits (Korthikanti et al. 2022, section 4.1, without the
    scores, which fused attention does not keep), twice as much in float32; with activation checkpointing only its
    float32 input, and the activations of one block at a time. With FSDP a process has its share of weights, gradients
    and moments while it trains, and all weights beside its shares of weights and moments while it validates.
    """
    channels = plan.sequence_length * plan.micro_batch_size * plan.model.n_embd
    block = channels * (68 if plan.precision == "fp32" else 34)
    layers = plan.model.n_layer
    activations = channels * 4 * layers + block if config.activation_checkpointing else block * layers
    shares = plan.processes if config.parallel == "fsdp" else 1
    state = 16 * plan.parameters // shares
    validating = (12 * plan.parameters) // shares + 4 * plan.parameters if shares > 1 else 0
    tokens, dtype = plan.sequence_length * plan.micro_batch_size, DTYPES[plan.precision]
    head = (plan.model.padded_vocab_size, plan.model.n_embd)
    loss = loss_memory_bytes(tokens, *head, dtype, torch.device(plan.device).type)
    return max(state + activations + loss, validating)


def seconds(plan: RunPlan, runtime: Runtime) -> float:
    """Time of the run's steps, from the speed of a matrix product on the device; good to a factor of two or so."""
    per_second = _matmul_flops(runtime) * EFFICIENCY * plan.processes
    return plan.flops_per_token * plan.tokens / per_second


def _matmul_flops(runtime: Runtime) -> float:
    """Floating-point operations per second of a square matrix product in the run's precision."""
    size = TRIAL_SIZE if runtime.device.type == "cpu" else 8 * TRIAL_SIZE
    factor = torch.ones(size, size, device=runtime.device, dtype=runtime.dtype)
    (factor @ factor).sum().item()  # the first product also loads kernels
    started = now = time.perf_counter()
    fastest = math.inf  # the mean would count what else the machine does, and threads that are still waking up
    while now - started < TRIAL_SECONDS:
        begun = now
        (factor @ factor)[0, 0].item()
        now = time.perf_counter()
        fastest = min(fastest, now - begun)
    return float(2 * size**3 / fastest)
