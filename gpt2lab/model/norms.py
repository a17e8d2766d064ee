"""Normalisation variants: ``NORMS[name](dim, config)`` is a module on [..., dim].

Legend: C = n_embd.
"""

from collections.abc import Callable

from torch import nn

from gpt2lab.config import ModelConfig


class LayerNorm(nn.LayerNorm):
    """Centre and scale to unit variance, then gain and (where ``config.bias``) bias. Ba et al. 2016, equation 4."""

    def __init__(self, dim: int, config: ModelConfig) -> None:
        super().__init__(dim, eps=config.norm.eps, bias=config.bias)


class RMSNorm(nn.RMSNorm):
    """Scale to unit root mean square, then gain; no centring, no bias. Zhang and Sennrich 2019, equation 4."""

    def __init__(self, dim: int, config: ModelConfig) -> None:
        super().__init__(dim, eps=config.norm.eps)


NORMS: dict[str, Callable[[int, ModelConfig], nn.Module]] = {
    "layernorm": LayerNorm,
    "rmsnorm": RMSNorm,
}
