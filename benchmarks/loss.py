"""The head and its loss, forward and backward: ours by groups, against cross-entropy of all logits."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import Pair, Worker
from benchmarks.models import device_of, keep_freed_memory
from gpt2lab.model.loss import objective_sum

VOCAB_SIZE = 50_257


def worker(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Worker:
    """Time forward and backward of a loss."""

    def prepare(case: Mapping[str, Any]) -> Callable[[], float]:
        keep_freed_memory(case)
        device = device_of(case)
        hidden = torch.randn(case["tokens"], case["width"], device=device, requires_grad=True)
        weight = (0.02 * torch.randn(VOCAB_SIZE, case["width"], device=device)).requires_grad_()
        targets = torch.randint(VOCAB_SIZE, (case["tokens"],), device=device)

        def run() -> float:
            hidden.grad = weight.grad = None
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=case["precision"] == "bf16"):
                value = loss(hidden, weight, targets)
            value.backward()
            value.item()  # a GPU has only been given the work so far
            return case["tokens"]

        return run

    return prepare


def all_logits(hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor) -> Tensor:
    """Plain cross-entropy."""
    return F.cross_entropy(F.linear(hidden_NC, weight_VC).float(), targets_N, reduction="sum")


WORKERS = {
    "gpt2lab": worker(lambda hidden, weight, targets: objective_sum(hidden, weight, targets, VOCAB_SIZE)[0]),
    "F.cross_entropy": worker(all_logits),
    "F.cross_entropy, compiled": lambda case: worker(torch.compile(all_logits))(case),
}
PAIRS = [
    Pair(f"loss alone, {tokens} x {width}, {precision}", "gpt2lab", "F.cross_entropy",
         {"tokens": tokens, "width": width, "precision": precision}, quick=width == 128)
    for tokens, width in ((2048, 128), (1024, 768))
    for precision in ("bf16", "fp32")
]  # fmt: skip
GPU_PAIRS = [
    Pair("loss alone, 16,384 x 1,024, bf16", "gpt2lab", theirs,
         {"device": "cuda", "tokens": 16_384, "width": 1024, "precision": "bf16"}, quick=theirs.endswith("compiled"))
    for theirs in ("F.cross_entropy", "F.cross_entropy, compiled")
]  # fmt: skip
