"""Normalization variants: ``NORMS[name](dim, config)`` is a module on [..., dim].

A norm may have a method ``linearized(x, reference)``, which ``explain`` splits the logits with: the part of the norm
before gain and bias, with what it computes from its input taken from ``reference`` instead, so that it is linear in x.

Legend: C = n_embd or head_dim, the normalized dimension.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gpt2lab.config import ModelConfig


class LayerNorm(nn.LayerNorm):
    """Subtract the mean, divide by the standard deviation, then gain and (if ``config.bias``) bias.

    Ba et al. 2016, equation 4. Under FSDP the weights are bf16, which PyTorch refuses on a CPU for a float32 input.
    """

    def __init__(self, dim: int, config: ModelConfig) -> None:
        super().__init__(dim, eps=config.norm.eps, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        if self.weight.dtype == x.dtype:
            return super().forward(x)
        dtype = torch.promote_types(self.weight.dtype, x.dtype)
        bias = None if self.bias is None else self.bias.to(dtype)
        return F.layer_norm(x, self.normalized_shape, self.weight.to(dtype), bias, self.eps)

    def linearized(self, x: Tensor, reference: Tensor) -> Tensor:
        """``x`` normalized by the deviation of ``reference``, without gain and bias: linear in ``x``."""
        centered = x - x.mean(dim=-1, keepdim=True)
        return centered / (reference.var(dim=-1, correction=0, keepdim=True) + self.eps).sqrt()


class RMSNorm(nn.RMSNorm):
    """Divide by the root mean square, then gain; no mean, no bias. Zhang and Sennrich 2019, equation 4.

    The arithmetic is in float32 or wider, the output in the input's dtype. Under autocast queries and keys arrive in
    bf16 while the weight is float32, which PyTorch's fused kernels refuse; under FSDP the weight is bf16.
    """

    def __init__(self, dim: int, config: ModelConfig) -> None:
        super().__init__(dim, eps=config.norm.eps)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        wide, weight = x.to(dtype), self.weight.to(dtype)
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            return _RMSNormOnCPU.apply(wide, weight, self.eps).to(x.dtype)
        return F.rms_norm(wide, self.normalized_shape, weight, self.eps).to(x.dtype)

    def linearized(self, x: Tensor, reference: Tensor) -> Tensor:
        """``x`` divided by the root mean square of ``reference``, without gain: linear in ``x``."""
        assert self.eps is not None
        return x / (reference.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()


class _RMSNormOnCPU(torch.autograd.Function):
    """y = weight x scale with scale = (mean(x^2) + eps)^(-1/2), and its gradient in as few passes as possible.

    PyTorch has a fused backward of RMSNorm on a GPU only; on a CPU its gradient takes five times as long as that of
    LayerNorm.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / x.shape[-1]
        scale = (mean_square + eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        C = x.shape[-1]
        grad_times_x = grad * x
        grad_weight = (scale.reshape(1, -1) @ grad_times_x.reshape(-1, C))[0]
        # d scale / d x = -scale^3 x / C
        grad_scale = (grad_times_x.reshape(-1, C) @ weight).view_as(scale)
        grad_x = (grad * scale).mul_(weight).addcmul_(x, grad_scale * scale**3, value=-1 / C)
        return grad_x, grad_weight, None


NORMS: dict[str, Callable[[int, ModelConfig], nn.Module]] = {
    "layernorm": LayerNorm,
    "rmsnorm": RMSNorm,
}
