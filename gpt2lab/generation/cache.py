"""Key-value cache: what attention needs of the tokens a model has already read.

Legend: B = rows, K = heads of keys and values, T = new tokens, S = stored tokens, D = head_dim.
"""

import torch
from torch import Tensor

from gpt2lab.config import ModelConfig
from gpt2lab.model import Layout


class LayerKV:
    """Keys and values of one layer, in buffers as long as the cache can get."""

    def __init__(self, shape: tuple[int, int, int, int], device: torch.device, dtype: torch.dtype) -> None:
        self.k, self.v = (torch.empty(shape, device=device, dtype=dtype) for _ in "kv")
        self.length = 0

    def append(self, k_BKTD: Tensor, v_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        """Store T more tokens; return views of all, [B, K, S, D] each."""
        start, self.length = self.length, self.length + k_BKTD.shape[2]
        self.k[:, :, start : self.length], self.v[:, :, start : self.length] = k_BKTD, v_BKTD
        return self.k[:, :, : self.length], self.v[:, :, : self.length]


class KVCache:
    """The layers' keys and values for ``batch_size`` rows of up to ``capacity`` tokens."""

    def __init__(
        self, config: ModelConfig, batch_size: int, capacity: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (batch_size, config.kv_heads, capacity, config.head_dim)
        self.layers = [LayerKV(shape, device, dtype) for _ in range(config.n_layer)]
        self.layout: Layout | None = None

    @property
    def length(self) -> int:
        """Tokens stored."""
        return self.layers[0].length

    def extend(self, new: Layout) -> Layout:
        """Note where the next tokens stand; return the layout of all, the stored ones and these."""
        self.layout = self.layout.then(new) if self.layout is not None else new
        return self.layout
