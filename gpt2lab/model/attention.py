"""Causal self-attention: project to q, k, v; apply positions; attend; project back.

Legend: B = batch, T = new tokens, S = keys seen (cached and new), C = n_embd, H = query heads, K = key-value heads,
D = head_dim.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2lab.config import ModelConfig
from gpt2lab.model.head import matmul_dtype
from gpt2lab.model.norms import NORMS
from gpt2lab.model.variants import find_variant

FLASH_DTYPES = (torch.float16, torch.bfloat16)
"""that flash attention takes on a GPU"""


class LayerCache(Protocol):
    """Keys and values of earlier tokens, of one layer."""

    def append(self, k_BKTD: Tensor, v_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values; return those of all tokens, [B, K, S, D] each."""
        ...


class AttentionContext(NamedTuple):
    """What every layer of one forward pass shares."""

    rotate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """applies the position scheme to q and k"""
    mask_BHTS: Tensor | None
    """bool (True = may attend) or added to the scores, broadcastable to [B, H, T, S]; None: causal over the T tokens"""


class CausalAttention(nn.Module):
    """softmax(q k^T / sqrt(D) + mask) v. Vaswani et al. 2017, equation 1.

    Query heads share key-value heads in groups: head k of the keys and values serves queries k H/K to
    (k + 1) H/K - 1. Ainslie et al. 2023, section 2.2.

    The module has no parameters. It exists so that a forward hook sees q, k, v and the mask of each layer;
    ``attention_weights`` computes the weights from them.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask_BHTS: Tensor | None) -> Tensor:
        """Attend.

        Args:
            q_BHTD: queries.
            k_BKSD: keys of all tokens seen.
            v_BKSD: values of all tokens seen.
            mask_BHTS: as in ``AttentionContext``. Without a mask T = S is causal, and T = 1 sees every key.

        Returns:
            [B, H, T, D].
        """
        causal = _is_causal_square(q_BHTD, k_BKSD, mask_BHTS)
        grouped = q_BHTD.shape[1] != k_BKSD.shape[1]
        if grouped and q_BHTD.is_cuda and (mask_BHTS is not None or matmul_dtype(q_BHTD) not in FLASH_DTYPES):
            # on a GPU only flash attention shares heads, and it takes no masks; the fallback would hold all scores
            k_BKSD, v_BKSD = (_repeat_heads(x_BKSD, q_BHTD.shape[1]) for x_BKSD in (k_BKSD, v_BKSD))
            grouped = False
        if mask_BHTS is not None and mask_BHTS.is_floating_point() and q_BHTD.dtype == torch.float64:
            mask_BHTS = mask_BHTS.double()  # on a CPU PyTorch would read the bytes of float32 as float64
        return F.scaled_dot_product_attention(
            q_BHTD,
            k_BKSD,
            v_BKSD,
            attn_mask=mask_BHTS,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
            enable_gqa=grouped,
        )

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return f"dropout={self.dropout}"


def attention_weights(q_BHTD: Tensor, k_BKSD: Tensor, mask_BHTS: Tensor | None) -> Tensor:
    """The weights that ``CausalAttention`` gives to the values: float32 [B, H, T, S], rows sum to 1.

    Takes the first, second and fourth input of ``CausalAttention``, which a forward hook receives::

        hook = lambda module, inputs, output: weights.append(attention_weights(inputs[0], inputs[1], inputs[3]))
        model.blocks[3].attn.attend.register_forward_hook(hook)
    """
    k_BHSD = _repeat_heads(k_BKSD, q_BHTD.shape[1])
    scores_BHTS = q_BHTD.float() @ k_BHSD.float().transpose(-2, -1) / math.sqrt(q_BHTD.shape[-1])
    if _is_causal_square(q_BHTD, k_BKSD, mask_BHTS):
        T = q_BHTD.shape[-2]
        mask_BHTS = torch.ones(T, T, dtype=torch.bool, device=q_BHTD.device).tril()
    if mask_BHTS is None:
        return scores_BHTS.softmax(dim=-1)
    if mask_BHTS.dtype == torch.bool:
        return scores_BHTS.masked_fill(~mask_BHTS, -torch.inf).softmax(dim=-1)
    return (scores_BHTS + mask_BHTS).softmax(dim=-1)


def _repeat_heads(x_BKSD: Tensor, n_head: int) -> Tensor:
    """Keys or values with one head for each query head, [B, H, S, D]."""
    return x_BKSD.repeat_interleave(n_head // x_BKSD.shape[1], dim=1)


def _is_causal_square(q_BHTD: Tensor, k_BKSD: Tensor, mask_BHTS: Tensor | None) -> bool:
    """Whether the T queries are also the T keys, and each sees itself and those before it."""
    if mask_BHTS is not None or q_BHTD.shape[-2] == 1:
        return False
    assert q_BHTD.shape[-2] == k_BKSD.shape[-2], "several new tokens after cached ones need a mask"
    return True


class Attention(nn.Module):
    """Multi-head causal attention as in GPT-2: one matrix, ``c_attn``, makes q, k and v, in that order."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = (config.n_head, config.kv_heads, config.kv_heads)
        self.head_dim = config.head_dim
        self.c_attn = nn.Linear(config.n_embd, sum(self.heads) * config.head_dim, bias=config.bias)
        norm = find_variant(NORMS, config.norm.name, "model.norm.name")
        self.q_norm = norm(config.head_dim, config) if config.qk_norm else nn.Identity()
        self.k_norm = norm(config.head_dim, config) if config.qk_norm else nn.Identity()
        self.attend: nn.Module = CausalAttention(config.dropout)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor, context: AttentionContext, cache: LayerCache | None) -> Tensor:
        """[B, T, C] to [B, T, C]. With a cache, the T tokens also see the stored ones, and are stored after them."""
        qkv_BHTD = self.c_attn(x_BTC).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q, k, v = qkv_BHTD.split(self.heads, dim=1)
        q, k = context.rotate(self.q_norm(q), self.k_norm(k))
        if cache is not None:
            k, v = cache.append(k, v)
        y_BHTD = self.attend(q, k, v, context.mask_BHTS)
        return self.dropout(self.c_proj(y_BHTD.transpose(1, 2).flatten(-2)))
