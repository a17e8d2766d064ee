"""The key-value cache: the keys and values of the tokens a model has already read.

Rows grow independently, one token at a time, and another text can take a row's place.

Legend: B = rows, K = key-value heads, T = new tokens, S = stored tokens, D = head_dim.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gpt2lab.config import ModelConfig
from gpt2lab.model import Layout


class SlotCache:
    """Keys and values of ``slots`` texts of up to ``capacity`` tokens; token t of a text is stored in column t.

    ``prompts`` and ``step`` are the caches to pass to the model. All buffers keep their addresses and shapes, and the
    positions of a step are a tensor, so that a step can be recorded as a CUDA graph.
    """

    def __init__(
        self, config: ModelConfig, slots: int, capacity: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (config.n_layer, slots, config.kv_heads, capacity, config.head_dim)
        # zeros: columns that are not written yet are masked, but 0 times NaN would be NaN
        self.k, self.v = torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype)
        self.capacity = capacity
        self.rows_B = torch.arange(slots, device=device)
        self.columns_S = torch.arange(capacity, device=device)

    def prompts(self, slots: Sequence[int]) -> "_Prompts":
        """A cache to read one prompt per slot with, from position 0, padded on the right."""
        layers = [_PromptLayer(k, v, list(slots)) for k, v in zip(self.k, self.v, strict=True)]
        return _Prompts(layers)

    def step(self, pos_B: Tensor, n_keys: int) -> "_Step":
        """A cache to read one token per slot with, at the positions ``pos_B``, all of them below ``n_keys``."""
        layers = [_StepLayer(k, v, self.rows_B, pos_B, n_keys) for k, v in zip(self.k, self.v, strict=True)]
        return _Step(layers, self.columns_S[None, :n_keys], pos_B)


class _PromptLayer(NamedTuple):
    k: Tensor
    v: Tensor
    slots: list[int]

    def append(self, k_BKTD: Tensor, v_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        T = k_BKTD.shape[2]
        self.k[self.slots, :, :T], self.v[self.slots, :, :T] = k_BKTD.to(self.k.dtype), v_BKTD.to(self.v.dtype)
        return k_BKTD, v_BKTD


class _Prompts(NamedTuple):
    layers: Sequence[_PromptLayer]
    length: int = 0

    def extend(self, new: Layout) -> Layout:
        return new


class _StepLayer(NamedTuple):
    k: Tensor
    v: Tensor
    rows_B: Tensor
    pos_B: Tensor
    n_keys: int

    def append(self, k_BK1D: Tensor, v_BK1D: Tensor) -> tuple[Tensor, Tensor]:
        self.k[self.rows_B, :, self.pos_B] = k_BK1D[:, :, 0].to(self.k.dtype)
        self.v[self.rows_B, :, self.pos_B] = v_BK1D[:, :, 0].to(self.v.dtype)
        return self.k[:, :, : self.n_keys], self.v[:, :, : self.n_keys]


class _Step(NamedTuple):
    layers: Sequence[_StepLayer]
    columns_1S: Tensor
    pos_B: Tensor

    @property
    def length(self) -> int:
        """Tokens stored in the longest slot."""
        return self.columns_1S.shape[1] - 1

    def extend(self, new: Layout) -> Layout:
        """Columns up to a slot's position are its text, segment 1; the others are segment 0."""
        if new.segment_BT is None:
            return Layout(self.columns_1S)
        return Layout(self.columns_1S, (self.columns_1S <= self.pos_B[:, None]).long())
