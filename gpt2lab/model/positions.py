"""Position variants: ``POSITIONS[name](config)`` meets the model in two places.

    x_BTC -> embed(x, pos) -> blocks; inside each attention: q, k -> rotate(q, k, tables) -> scores

Positions arrive as a tensor with one number a token, not as one offset, so that cached decoding, left-padded rows
and documents that start again at 0 need no code of their own. ``tables(pos)`` is computed once a forward pass and
shared by all layers.

Legend: B = batch (or 1), T = tokens, C = n_embd, H = heads, D = head_dim, R = D / 2 rotated pairs.
"""

import torch
from torch import Tensor, nn

from gpt2lab.config import ModelConfig, UserError

Tables = tuple[Tensor, ...]


class Positions(nn.Module):
    """The interface, and its neutral element: no information about positions."""

    def embed(self, x_BTC: Tensor, pos_BT: Tensor) -> Tensor:
        """Add what the scheme adds to the token embeddings. ``pos_BT``: int64, [B or 1, T]."""
        return x_BTC

    def tables(self, pos_BT: Tensor) -> Tables:
        """What ``rotate`` needs at these positions; float32 whatever the model's format."""
        return ()

    def rotate(self, q_BHTD: Tensor, k_BHTD: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        """Put the positions into queries and keys, before the keys are cached."""
        return q_BHTD, k_BHTD


class Learned(Positions):
    """GPT-2's: one learned vector a position, added to the token embedding; none beyond ``block_size``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.wpe = nn.Embedding(config.block_size, config.n_embd)

    def embed(self, x_BTC: Tensor, pos_BT: Tensor) -> Tensor:
        """Add the vectors of these positions."""
        return x_BTC + self.wpe(pos_BT)


class Rope(Positions):
    """Rotary positions: pair r of the head's channels turns by pos * theta^(-2r/D). Su et al. 2021, equation 34.

    The pairs are (r, r + D/2), the layout of GPT-NeoX and of Llama in ``transformers``; the paper's pairs (2r, 2r + 1)
    are the same function under a fixed permutation of the channels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.head_dim % 2:
            raise UserError(
                f"model.positions=rope turns pairs of channels: head_dim = n_embd / n_head = {config.head_dim} is odd; "
                "choose model.n_head so that it is even"
            )
        self.head_dim = config.head_dim
        self.theta = config.positions.rope_theta

    def tables(self, pos_BT: Tensor) -> Tables:
        """Cosines and sines, [B or 1, 1, T, R] each: computed, not stored, so that no cast of the model rounds them."""
        exponent_R = torch.arange(0, self.head_dim, 2, device=pos_BT.device, dtype=torch.float32) / self.head_dim
        angle_B1TR = pos_BT[:, None, :, None].float() * self.theta**-exponent_R
        return angle_B1TR.cos(), angle_B1TR.sin()

    def rotate(self, q_BHTD: Tensor, k_BHTD: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        """Turn queries and keys; the product is in float32, the result in the input's format."""
        return _rotate_pairs(q_BHTD, *tables), _rotate_pairs(k_BHTD, *tables)


def _rotate_pairs(x_BHTD: Tensor, cos_B1TR: Tensor, sin_B1TR: Tensor) -> Tensor:
    a_BHTR, b_BHTR = x_BHTD.chunk(2, dim=-1)
    turned = (a_BHTR * cos_B1TR - b_BHTR * sin_B1TR, b_BHTR * cos_B1TR + a_BHTR * sin_B1TR)
    return torch.cat(turned, dim=-1).to(x_BHTD.dtype)


POSITIONS: dict[str, type[Learned] | type[Rope]] = {"learned": Learned, "rope": Rope}
