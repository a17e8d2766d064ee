"""Muon: momentum whose matrices are made nearly orthogonal before they are added (Jordan et al. 2024).

The rule and the state are those of ``torch.optim.Muon``. What differs: matrices of one shape are orthogonalized
together, in a dtype that is chosen (PyTorch's is always bfloat16, which a processor without bf16 products emulates
slowly), a step can be skipped on the device, and of matrices that FSDP has split each process updates its rows.

Legend: M = matrices of one shape, R x C = their shape.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gpt2lab.training.sharding import own_part, split_like, whole_of_part

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""of the Newton-Schulz step, chosen for the steepest rise from 0 (Jordan et al. 2024)"""
STEPS = 5
SMALLEST_NORM = 1e-7


class Muon(Optimizer):
    """Updates matrices W with gradient G: B <- mu B + (1 - mu) G, W <- (1 - lr decay) W - lr s orthogonal(G, B).

    ``orthogonal`` takes Nesterov's point (1 - mu) G + mu B; s = 0.2 sqrt(max(R, C)) gives the update the size of
    AdamW's (Liu et al. 2025, section 2.2).

    Args:
        params: matrices, or (name, matrix).
        lr: learning rate.
        weight_decay: decoupled.
        momentum: mu.
        dtype: of the products in ``orthogonalize``.
    """

    found_inf: Tensor | None = None
    """float32 scalar on the device: where it is 1, ``step`` changes nothing (see ``Optimizers.step_unless``)"""

    def __init__(
        self, params: Iterable[Any], lr: float, weight_decay: float, momentum: float, dtype: torch.dtype
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the matrices that have a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for matrices in by_shape.values():
                self._step(matrices, group["lr"], group["weight_decay"], group["momentum"])

    def _step(self, matrices: list[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        parts = [own_part(matrix) for matrix in matrices]
        grads = [own_part(matrix.grad) for matrix in matrices if matrix.grad is not None]
        buffers = [own_part(self.state[matrix]["momentum_buffer"]) for matrix in matrices]
        update_scale = lr * 0.2 * math.sqrt(max(matrices[0].shape))
        if self.found_inf is None:
            torch._foreach_mul_(parts, 1 - lr * weight_decay)
        else:
            # with its own buffer as gradient a matrix keeps its momentum, and its update is multiplied by 0
            grads = [torch.where(self.found_inf > 0, buffer, grad) for buffer, grad in zip(buffers, grads, strict=True)]
            torch._foreach_mul_(parts, 1 - lr * weight_decay * (1 - self.found_inf))
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        points = torch._foreach_lerp(grads, buffers, momentum)
        point_MRC = torch.stack([whole_of_part(point, like) for point, like in zip(points, matrices, strict=True)])
        update_MRC = orthogonalize(point_MRC.to(self.dtype))
        update_MRC = update_MRC.to(matrices[0].dtype).mul_(-update_scale)
        if self.found_inf is not None:
            update_MRC *= 1 - self.found_inf
        updates = [own_part(split_like(update, like)) for update, like in zip(update_MRC, matrices, strict=True)]
        torch._foreach_add_(parts, updates)


def orthogonalize(matrices_MRC: Tensor) -> Tensor:
    """U S V^T for matrices U D V^T, with singular values S between about 0.7 and 1.2, by Newton-Schulz steps."""
    a, b, c = COEFFICIENTS
    R, C = matrices_MRC.shape[1:]
    wide_MRC = matrices_MRC.mT if R > C else matrices_MRC  # products of the shorter side are cheaper
    wide_MRC = wide_MRC / wide_MRC.norm(dim=(1, 2), keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(STEPS):
        gram_MRR = wide_MRC @ wide_MRC.mT
        polynomial_MRR = torch.baddbmm(gram_MRR, gram_MRR, gram_MRR, beta=b, alpha=c)
        wide_MRC = torch.baddbmm(wide_MRC, polynomial_MRR, wide_MRC, beta=a)
    return wide_MRC.mT if R > C else wide_MRC
