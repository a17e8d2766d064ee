"""A training step, from token ids to updated weights: gpt2lab's against the peers' on the same shape and batch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.harness import Pair, Worker
from benchmarks.models import DTYPES, keep_freed_memory, our_model, our_runtime, their_model
from gpt2lab.config import OptimizerConfig, TrainingConfig
from gpt2lab.evaluation.device_batches import TensorBatch
from gpt2lab.training.loss_scale import LossScale
from gpt2lab.training.optimizer import Optimizers, adamw
from gpt2lab.training.parallel import ParallelStrategy
from gpt2lab.training.state import TrainState
from gpt2lab.training.update import Update


def ids_of(case: Mapping[str, Any]) -> torch.Tensor:
    """Random token ids, one more column than the model reads."""
    return torch.randint(50_257, (case["rows"], case["T"] + 1))


def gpt2lab(case: Mapping[str, Any]) -> Callable[[], float]:
    """What ``train.py`` does for a step."""
    model, runtime = our_model(case), our_runtime(case)
    optimizer = Optimizers(adamw(model, OptimizerConfig(), 1e-3))
    settings = TrainingConfig(max_steps=100)
    update = Update(
        model, optimizer, TrainState(LossScale(runtime)), settings, case["rows"], 0, runtime, ParallelStrategy()
    )
    ids = ids_of(case)

    def run() -> float:
        update(0, TensorBatch(ids[:, :-1], ids[:, 1:], None, ids[:, 1:].numel()), 1.0).read()
        return ids[:, 1:].numel()

    return run


def variant(**options: str) -> Worker:
    """gpt2lab with another part of the model."""
    return lambda case: gpt2lab({**case, **options})


def transformers(case: Mapping[str, Any]) -> Callable[[], float]:
    """The loop of its documentation: labels in, loss out, AdamW."""
    keep_freed_memory(case)
    model, ids = their_model(case), ids_of(case)[:, :-1]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def run() -> float:
        with torch.autocast("cpu", dtype=DTYPES["bf16"], enabled=case.get("theirs", case["precision"]) == "bf16"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        return ids.numel()

    return run


def nano_gpt(case: Mapping[str, Any]) -> Callable[[], float]:
    """nanoGPT's way: all logits, cross-entropy, clipping, fused AdamW; on our model, which has the same blocks."""
    keep_freed_memory(case)
    model, ids = our_model(case).train(), ids_of(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)

    def run() -> float:
        with torch.autocast("cpu", dtype=DTYPES["bf16"], enabled=case["precision"] == "bf16"):
            logits = F.linear(model.hidden(ids[:, :-1]), model.head_PC)
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), ids[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        return ids[:, 1:].numel()

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
