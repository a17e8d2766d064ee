"""Other ways into a model than those of the package: a cache that grows in chunks of any size, and left padding.

They test that a model needs nothing but positions and segments. Legend: B = rows, K = key-value heads, T = new tokens,
S = stored tokens, D = head_dim.
"""

import torch

from gpt2lab.model import Layout


class LayerKV:
    """Keys and values of one layer, in buffers of the cache's capacity."""

    def __init__(self, shape, device, dtype):
        self.k = torch.empty(shape, device=device, dtype=dtype)
        self.v = torch.empty(shape, device=device, dtype=dtype)
        self.length = 0

    def append(self, k_BKTD, v_BKTD):
        """Store T more tokens; return views of all, [B, K, S, D] each."""
        start, self.length = self.length, self.length + k_BKTD.shape[2]
        self.k[:, :, start : self.length], self.v[:, :, start : self.length] = k_BKTD, v_BKTD
        return self.k[:, :, : self.length], self.v[:, :, : self.length]


class KVCache:
    """The layers' keys and values for ``batch_size`` rows of up to ``capacity`` tokens."""

    def __init__(self, config, batch_size, capacity, device, dtype):
        shape = (batch_size, config.kv_heads, capacity, config.head_dim)
        self.layers = [LayerKV(shape, device, dtype) for _ in range(config.n_layer)]
        self.layout = None

    @property
    def length(self):
        """Tokens stored."""
        return self.layers[0].length

    def extend(self, new):
        """Record the layout of the next tokens; return the layout of all tokens, stored and new."""
        self.layout = new if self.layout is None else joined(self.layout, new)
        return self.layout


def joined(first, second):
    """The layout of tokens followed by others; both have segments or neither has."""
    assert (first.segment_BT is None) == (second.segment_BT is None), "tokens with segments after tokens without"
    return Layout(*(None if a is None else torch.cat([a, b], dim=1) for a, b in zip(first, second, strict=True)))


def left_padded(n_padding_B, first, stop):
    """Columns ``first`` to ``stop`` of rows that begin with ``n_padding_B`` columns of padding.

    The text of each row is segment 1, with positions from 0 at its first token. Padding is segment 0, so no token of
    the text attends to it.
    """
    column_BT = torch.arange(first, stop, device=n_padding_B.device) - n_padding_B[:, None]
    return Layout(column_BT.clamp(min=0), (column_BT >= 0).long())
