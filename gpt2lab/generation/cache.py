"""Key-value cache: what attention needs of the tokens a model has already read.

Legend: B = rows, H = heads, T = new tokens, S = stored tokens, D = head_dim.
"""

import torch
from torch import Tensor

from gpt2lab.config import ModelConfig


class LayerKV:
    """Keys and values of one layer, in buffers as long as the context."""

    def __init__(self, shape: tuple[int, int, int, int], device: torch.device, dtype: torch.dtype) -> None:
        self.k, self.v = (torch.empty(shape, device=device, dtype=dtype) for _ in "kv")
        self.length = 0

    def append(self, k_BHTD: Tensor, v_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Store T more tokens; return views of all, [B, H, S, D] each."""
        start, self.length = self.length, self.length + k_BHTD.shape[2]
        self.k[:, :, start : self.length], self.v[:, :, start : self.length] = k_BHTD, v_BHTD
        return self.k[:, :, : self.length], self.v[:, :, : self.length]


class KVCache:
    """The layers' keys and values for ``batch_size`` rows of equal length."""

    def __init__(self, config: ModelConfig, batch_size: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (batch_size, config.n_head, config.block_size, config.head_dim)
        self.layers = [LayerKV(shape, device, dtype) for _ in range(config.n_layer)]

    @property
    def length(self) -> int:
        """Tokens stored."""
        return self.layers[0].length
