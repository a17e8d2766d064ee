"""The head and its loss, forward and backward: ours by groups, against cross-entropy of all logits."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import Pair, Worker
from benchmarks.models import keep_freed_memory
from gpt2lab.model.loss import objective_sum

VOCAB_SIZE = 50_257


def worker(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Worker:
    """Time forward and backward of a loss."""

    def prepare(case: Mapping[str, Any]) -> Callable[[], float]:
        keep_freed_memory(case)
        hidden = torch.randn(case["tokens"], case["width"], requires_grad=True)
        weight = (0.02 * torch.randn(VOCAB_SIZE, case["width"])).requires_grad_()
        targets = torch.randint(VOCAB_SIZE, (case["tokens"],))

        def run() -> float:
            hidden.grad = weight.grad = None
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case["precision"] == "bf16"):
                value = loss(hidden, weight, targets)
            value.backward()
            return case["tokens"]

        return run

    return prepare


WORKERS = {
    "gpt2lab": worker(lambda hidden, weight, targets: objective_sum(hidden, weight, targets, VOCAB_SIZE)[0]),
    "F.cross_entropy": worker(
        lambda hidden, weight, targets: F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")
    ),
}
PAIRS = [
    Pair(f"loss alone, {tokens} x {width}, {precision}", "gpt2lab", "F.cross_entropy",
         {"tokens": tokens, "width": width, "precision": precision}, quick=width == 128)
    for tokens, width in ((2048, 128), (1024, 768))
    for precision in ("bf16", "fp32")
]  # fmt: skip
