"""A training step, from token ids to updated weights: gpt2lab's against the peers' on the same shape and batch.

On a GPU each side queues several steps, of several micro-batches each, before it waits for the device, and
``compile`` gives both torch.compile: ours by block, as ``runtime.compile=true`` does, theirs of the whole model.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import Pair, Worker
from benchmarks.models import DTYPES, device_of, keep_freed_memory, our_model, our_runtime, their_model
from gpt2lab.config import OptimizerConfig, RuntimeConfig, TrainingConfig
from gpt2lab.evaluation.device_batches import TensorBatch
from gpt2lab.training.build import prepare_blocks
from gpt2lab.training.loss_scale import LossScale
from gpt2lab.training.optimizer import Optimizers, adamw
from gpt2lab.training.parallel import ParallelStrategy
from gpt2lab.training.state import TrainState
from gpt2lab.training.update import Update


def ids_of(case: Mapping[str, Any]) -> torch.Tensor:
    """Random token ids, one more column than the model reads."""
    return torch.randint(50_257, (case["rows"], case["T"] + 1)).to(device_of(case))


def gpt2lab(case: Mapping[str, Any]) -> Callable[[], float]:
    """What ``train.py`` does for a step."""
    model, runtime = our_model(case), our_runtime(case)
    prepare_blocks(model.blocks, RuntimeConfig(compile=case.get("compile", False)))
    optimizer = Optimizers(adamw(model, OptimizerConfig(), 1e-3))
    settings = TrainingConfig(max_steps=100)
    state, micro_batch_size = TrainState(LossScale(runtime)), case.get("micro_batch", case["rows"])
    update = Update(model, optimizer, state, settings, micro_batch_size, 0, runtime, ParallelStrategy())
    ids = ids_of(case)
    batch = TensorBatch(ids[:, :-1], ids[:, 1:], None, ids[:, 1:].numel())

    def run() -> float:
        results = [update(step, batch, 1.0) for step in range(case.get("steps", 1))]
        results[-1].read()
        return len(results) * batch.scored

    return run


def variant(**options: str) -> Worker:
    """gpt2lab with another part of the model."""
    return lambda case: gpt2lab({**case, **options})


def transformers(case: Mapping[str, Any]) -> Callable[[], float]:
    """The loop of its documentation: labels in, loss out, AdamW."""
    keep_freed_memory(case)
    model = their_model(case)
    forward = torch.compile(model) if case.get("compile") else model
    return peer_step(case, model.parameters(), lambda ids: forward(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss)


def nano_gpt(case: Mapping[str, Any]) -> Callable[[], float]:
    """nanoGPT's way: all logits, cross-entropy, clipping, fused AdamW; on our model, which has the same blocks."""
    keep_freed_memory(case)
    model = our_model(case).train()

    def loss_of(ids: Tensor) -> Tensor:
        logits = F.linear(model.hidden(ids[:, :-1]), model.head_PC)
        return F.cross_entropy(logits.view(-1, logits.size(-1)), ids[:, 1:].reshape(-1))

    loss = torch.compile(loss_of) if case.get("compile") else loss_of
    return peer_step(case, model.parameters(), loss, betas=(0.9, 0.95), fused=True)


def peer_step(
    case: Mapping[str, Any], parameters: Iterator[Tensor], loss_of: Callable[[Tensor], Tensor], **adamw_options: Any
) -> Callable[[], float]:
    """Backward through the micro-batches, clipping and AdamW."""
    weights, ids = list(parameters), ids_of(case)
    if ids.is_cuda:
        adamw_options["fused"] = True
    optimizer = torch.optim.AdamW(weights, lr=1e-3, **adamw_options)
    micro_batches = ids.split(case.get("micro_batch", len(ids)))
    is_bf16 = case.get("theirs", case["precision"]) == "bf16"

    def run() -> float:
        for _ in range(case.get("steps", 1)):
            for micro_batch in micro_batches:
                with torch.autocast(ids.device.type, dtype=DTYPES["bf16"], enabled=is_bf16):
                    loss = loss_of(micro_batch)
                (loss / len(micro_batches)).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        loss.item()
        return case.get("steps", 1) * ids[:, 1:].numel()

    return run


WORKERS = {
    "gpt2lab": gpt2lab,
    "transformers": transformers,
    "nanoGPT": nano_gpt,
    "rope": variant(positions="rope"),
    "alibi": variant(positions="alibi"),
    "sinusoidal": variant(positions="sinusoidal"),
    "none": variant(positions="none"),
    "rmsnorm": variant(norm="rmsnorm"),
}
NANO = {"shape": "nano", "rows": 8, "T": 256}
SMALL = {"shape": "small", "rows": 2, "T": 256}
MEDIUM = {"shape": "medium", "rows": 1, "T": 256}
PAIRS = [
    Pair("step nano, auto; theirs fp32, default malloc", "gpt2lab", "transformers",
         {**NANO, "precision": "auto", "theirs": "fp32", "malloc": "default"}, target=4.0, quick=True),
    Pair("step nano, bf16", "gpt2lab", "transformers", {**NANO, "precision": "bf16"}),
    Pair("step nano, bf16", "gpt2lab", "nanoGPT", {**NANO, "precision": "bf16"}, target=1.7, quick=True),
    Pair("step nano, fp32", "gpt2lab", "nanoGPT", {**NANO, "precision": "fp32"}, quick=True),
    Pair("step nano, fp32", "gpt2lab", "transformers", {**NANO, "precision": "fp32"}, target=1.4, quick=True),
    Pair("step small, bf16", "gpt2lab", "transformers", {**SMALL, "precision": "bf16"}, target=1.3, quick=True),
    Pair("step small, fp32", "gpt2lab", "transformers", {**SMALL, "precision": "fp32"}, target=1.15, quick=True),
    Pair("step medium, bf16", "gpt2lab", "transformers", {**MEDIUM, "precision": "bf16"}),
    *(Pair("step nano, fp32", name, "gpt2lab", {**NANO, "precision": "fp32"},
           target=1.0 if name == "rmsnorm" else None, quick=name in ("rope", "rmsnorm"))
      for name in ("rope", "alibi", "sinusoidal", "none", "rmsnorm")),
]  # fmt: skip

GPU = {"device": "cuda", "precision": "bf16", "T": 1024, "steps": 4}
GPU_SMALL = {**GPU, "shape": "small", "rows": 128, "micro_batch": 32}
GPU_MEDIUM = {**GPU, "shape": "medium", "rows": 64, "micro_batch": 16}
GPU_LARGE = {**GPU, "shape": "large", "rows": 32, "micro_batch": 8}
COMPILED = {"compile": True}
GPU_PAIRS = [
    Pair("step medium, bf16, compiled", "gpt2lab", "transformers",
         {**GPU_MEDIUM, **COMPILED}, target=1.2, mfu_target=0.48, quick=True),
    Pair("step medium, bf16, compiled", "gpt2lab", "nanoGPT", {**GPU_MEDIUM, **COMPILED}),
    Pair("step medium, bf16, eager", "gpt2lab", "transformers", GPU_MEDIUM, quick=True),
    Pair("step small, bf16, compiled", "gpt2lab", "transformers",
         {**GPU_SMALL, **COMPILED}, target=1.2, mfu_target=0.43, quick=True),
    Pair("step small, bf16, compiled", "gpt2lab", "nanoGPT", {**GPU_SMALL, **COMPILED}),
    Pair("step large, bf16, compiled", "gpt2lab", "transformers",
         {**GPU_LARGE, **COMPILED}, target=1.2, mfu_target=0.55, quick=True),
    *(Pair("step medium, bf16, compiled", name, "gpt2lab", {**GPU_MEDIUM, **COMPILED}) for name in ("rope", "rmsnorm")),
]  # fmt: skip
