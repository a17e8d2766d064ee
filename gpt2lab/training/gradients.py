"""The norm of the gradient, which parameters are non-finite in it, and clipping; without waiting for a GPU."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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


def gradient_norms(gradients: Mapping[str, Tensor], norms_of: Callable[[Sequence[Tensor]], Tensor]) -> GradientNorms:
    """Norms of named gradients, computed as ``torch.nn.utils.get_total_norm`` does.

    Args:
        gradients: by the names of their parameters.
        norms_of: the L2 norm of each tensor, over all processes where the tensors are split.
    """
    norms = norms_of(list(gradients.values()))
    return GradientNorms(list(gradients), norms, torch.linalg.vector_norm(norms))


def clip_gradients(gradients: Sequence[Tensor], max_norm: float, total: Tensor) -> None:
    """Scale gradients, or the parts of them that this process has, so that their total norm is at most ``max_norm``.

    The rule is that of ``torch.nn.utils.clip_grad_norm_``. A non-finite total leaves the gradients as they are: they
    are evidence, and one NaN would otherwise make all of them NaN.
    """
    finite_total = torch.where(total.isfinite(), total, 0.0)
    torch._foreach_mul_(list(gradients), (max_norm / (finite_total + 1e-6)).clamp(max=1.0))


def _is_finite(norm: float) -> bool:
    return abs(norm) < float("inf")
