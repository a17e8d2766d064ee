"""The norm of the gradient, which parameters are non-finite in it, and clipping; without waiting for a GPU."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_


@dataclass(frozen=True)
class GradientNorms:
    """Norms before clipping, on the parameters' device."""

    names: Sequence[str]
    """parameters that have a gradient"""
    norms: Tensor
    """L2 norm of each, [len(names)]"""
    total: Tensor
    """L2 norm of all of them as one vector, a scalar"""

    def nonfinite(self) -> list[str]:
        """The parameters whose gradient holds NaN or inf (or is so large that its square does)."""
        return [name for name, norm in zip(self.names, self.norms.tolist(), strict=True) if not _is_finite(norm)]


def gradient_norms(named_parameters: Iterable[tuple[str, nn.Parameter]]) -> GradientNorms:
    """Norms of the gradients, computed as ``torch.nn.utils.get_total_norm`` does, of all parameters together."""
    with_gradient = [(name, parameter.grad) for name, parameter in named_parameters if parameter.grad is not None]
    norms = torch.stack(torch._foreach_norm([gradient for _, gradient in with_gradient]))
    return GradientNorms([name for name, _ in with_gradient], norms, torch.linalg.vector_norm(norms))


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float, total: Tensor) -> None:
    """Scale the gradients so that their total norm is at most ``max_norm``; a non-finite one leaves them as they are.

    The evidence of a non-finite gradient is kept this way: one NaN would otherwise make all gradients NaN.
    """
    clip_grads_with_norm_(parameters, max_norm, torch.where(total.isfinite(), total, 0.0))


def _is_finite(norm: float) -> bool:
    return abs(norm) < float("inf")
