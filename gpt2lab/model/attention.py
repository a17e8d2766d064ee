"""Causal self-attention: project to q, k, v; put positions in; attend; project back.

Legend: B = batch, T = new tokens, S = keys seen (cached and new), C = n_embd, H = heads, K = heads of keys and values,
D = head_dim.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from gpt2lab.config import ModelConfig, choose
from gpt2lab.model.norms import NORMS


class LayerCache(Protocol):
    """Keys and values of earlier tokens, of one layer."""

    def append(self, k_BKTD: Tensor, v_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values; return those of all tokens, [B, K, S, D] each."""
        ...


class AttentionContext(NamedTuple):
    """What one forward pass tells every layer."""

    rotate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """puts positions into q and k"""
    mask_BHTS: Tensor | None
    """bool (True = may attend) or added to the scores, broadcastable to [B, H, T, S]; None: causal over the T tokens"""


def attend(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask_BHTS: Tensor | None, dropout: float) -> Tensor:
    """softmax(q k^T / sqrt(D) + mask) v. Vaswani et al. 2017, equation 1.

    Head k of the keys and values serves queries k H/K to (k + 1) H/K - 1. Ainslie et al. 2023, section 2.2.

    Without a mask the last T of the S keys are the T queries' own tokens, and query t sees the keys up to its own:
    that is the causal square when T = S, and every key when T = 1.
    """
    causal_square = mask_BHTS is None and q_BHTD.shape[-2] > 1
    assert not causal_square or q_BHTD.shape[-2] == k_BKSD.shape[-2], "several new tokens after cached ones need a mask"
    return F.scaled_dot_product_attention(
        q_BHTD,
        k_BKSD,
        v_BKSD,
        attn_mask=mask_BHTS,
        dropout_p=dropout,
        is_causal=causal_square,
        enable_gqa=q_BHTD.shape[1] != k_BKSD.shape[1],
    )


class Attention(nn.Module):
    """Multi-head causal attention as in GPT-2: one matrix makes q, k and v, in that order."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = (config.n_head, config.kv_heads, config.kv_heads)
        self.head_dim = config.head_dim
        self.c_attn = nn.Linear(config.n_embd, sum(self.heads) * config.head_dim, bias=config.bias)
        norm = choose(NORMS, config.norm.name, "model.norm.name")
        self.q_norm, self.k_norm = (
            norm(config.head_dim, config) if config.qk_norm else nn.Identity() for _ in ("q", "k")
        )
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.attention_dropout = config.dropout
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor, context: AttentionContext, cache: LayerCache | None) -> Tensor:
        """[B, T, C] to [B, T, C]; with a cache, the T tokens also see those stored in it and are stored after them."""
        qkv_BHTD = self.c_attn(x_BTC).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q, k, v = qkv_BHTD.split(self.heads, dim=1)
        q, k = context.rotate(self.q_norm(q), self.k_norm(k))
        if cache is not None:
            k, v = cache.append(k, v)
        y_BHTD = attend(q, k, v, context.mask_BHTS, self.attention_dropout if self.training else 0.0)
        return self.dropout(self.c_proj(y_BHTD.transpose(1, 2).flatten(-2)))
