"""Position variants: ``POSITIONS[name](config)`` acts at three points of the model.

    x_BTC -> embed(x, pos) -> blocks; inside each attention: q, k -> rotate(q, k, tables) -> scores + bias(pos, pos)

Positions arrive as a tensor with one number per token, not as one offset. Cached decoding, left-padded rows and
documents that restart at 0 therefore need no special code. ``tables`` and ``bias`` are computed once per forward pass
and shared by all layers, in float32 whatever the model's dtype.

Legend: B = batch (or 1), T = tokens, S = tokens seen, C = n_embd, H = heads, D = head_dim, R = rotated pairs.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gpt2lab.config import ModelConfig, UserError

Tables = tuple[Tensor, ...]


class Positions(nn.Module):
    """The interface, and the variant ``none``: positions are known from the causal mask alone.

    Haviv et al. 2022 and Kazemnejad et al. 2023 train language models this way.
    """

    max_length: int | None = None
    """number of positions; None: unlimited"""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def embed(self, x_BTC: Tensor, pos_BT: Tensor) -> Tensor:
        """The token embeddings with positions added. ``pos_BT``: int64, [B or 1, T]."""
        return x_BTC

    def tables(self, pos_BT: Tensor) -> Tables:
        """Inputs of ``rotate`` for these positions, float32."""
        return ()

    def rotate(self, q_BHTD: Tensor, k_BHTD: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        """Queries and keys with positions applied. Keys are cached after this."""
        return q_BHTD, k_BHTD

    def bias(self, pos_BT: Tensor, pos_BS: Tensor) -> Tensor | None:
        """Added to the scores of queries at ``pos_BT`` with keys at ``pos_BS``: [B, H, T, S], or None."""
        return None


class Learned(Positions):
    """GPT-2's scheme: one learned vector per position, up to ``block_size``, added to the token embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.max_length = config.block_size
        self.wpe = nn.Embedding(config.block_size, config.n_embd)

    def embed(self, x_BTC: Tensor, pos_BT: Tensor) -> Tensor:
        """Add the vectors of these positions."""
        return x_BTC + self.wpe(pos_BT)


class Sinusoidal(Positions):
    """Fixed sines and cosines, divided by sqrt(C), added to the token embeddings. Vaswani et al. 2017, section 3.5.

    Channel 2i is sin(pos / 10000^(2i/C)), channel 2i + 1 the cosine. The paper multiplies the embeddings by sqrt(C)
    instead of dividing the waves (section 3.4): the same sum, scaled by sqrt(C). With GPT-2's initialization the
    scaled sum would dominate the residual stream, and a tied head would predict each input token as its own successor.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.n_embd % 2:
            raise UserError(
                f"model.n_embd={config.n_embd}: model.positions=sinusoidal needs pairs of channels; expected an even "
                f"number; try model.n_embd={config.n_embd + 1}"
            )
        self.n_embd = config.n_embd

    def embed(self, x_BTC: Tensor, pos_BT: Tensor) -> Tensor:
        """Add the sines and cosines of these positions."""
        angle_BTR = pos_BT[..., None].float() * _frequencies(self.n_embd, 10_000.0, pos_BT.device)
        waves_BTC = torch.stack([angle_BTR.sin(), angle_BTR.cos()], dim=-1).flatten(-2)
        return x_BTC + (waves_BTC / math.sqrt(self.n_embd)).to(x_BTC.dtype)


class Rope(Positions):
    """Rotary positions: pair r of a head's channels is rotated by pos * theta^(-r/R). Su et al. 2021, equation 34.

    The pairs are (r, r + R), the layout of GPT-NeoX and of Llama in ``transformers``; the paper's pairs (2r, 2r + 1)
    are the same function under a fixed permutation of the channels. With ``rope_fraction`` below 1 only the first
    2R channels of a head are rotated, as in GPT-NeoX (Black et al. 2022, section 2.1).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.rotated = int(config.head_dim * config.positions.rope_fraction)
        if self.rotated % 2 or not self.rotated:
            raise UserError(
                f"model.positions.rope_fraction={config.positions.rope_fraction}: rope rotates pairs of channels, and "
                f"rope_fraction x head_dim = {config.positions.rope_fraction} x {config.head_dim} = {self.rotated}; "
                f"expected an even number above 0; try another model.n_head (now {config.n_head})"
            )
        self.theta = config.positions.rope_theta

    def tables(self, pos_BT: Tensor) -> Tables:
        """Cosines and sines, float32 [B or 1, 1, T, R] each."""
        angle_B1TR = pos_BT[:, None, :, None].float() * _frequencies(self.rotated, self.theta, pos_BT.device)
        return angle_B1TR.cos(), angle_B1TR.sin()

    def rotate(self, q_BHTD: Tensor, k_BHTD: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys in float32; the results are in the input's dtype."""
        return _rotate_pairs(q_BHTD, *tables), _rotate_pairs(k_BHTD, *tables)


class Alibi(Positions):
    """Scores fall linearly with the distance, with one slope per head. Press et al. 2022, section 3."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.n_head = config.n_head

    def bias(self, pos_BT: Tensor, pos_BS: Tensor) -> Tensor:
        """-slope * (query's position - key's position)."""
        slopes_H11 = alibi_slopes(self.n_head, pos_BT.device)[:, None, None]
        return slopes_H11 * (pos_BS[:, None, None, :] - pos_BT[:, None, :, None]).float()


def alibi_slopes(n_head: int, device: torch.device) -> Tensor:
    """Slopes of the heads, float32 [H]: 2^(-8h/H) for h = 1 to H, if H is a power of 2.

    Otherwise the slopes of the next smaller power of 2, then every other slope of the next larger one; this second
    rule is that of the authors' code. Computed on the device: a copy from the host would stop a GPU's queue.
    """
    below = 2 ** math.floor(math.log2(n_head))
    exponents_H = torch.cat(
        [
            (torch.arange(below, device=device) + 1) * (8 / below),
            (torch.arange(n_head - below, device=device) * 2 + 1) * (4 / below),
        ]
    )
    return torch.exp2(-exponents_H)


def _frequencies(channels: int, theta: float, device: torch.device) -> Tensor:
    """theta^(-2r/channels) for each pair r of ``channels``, float32 [R]."""
    exponent_R = torch.arange(0, channels, 2, device=device, dtype=torch.float32) / channels
    return theta**-exponent_R


def _rotate_pairs(x_BHTD: Tensor, cos_B1TR: Tensor, sin_B1TR: Tensor) -> Tensor:
    R = cos_B1TR.shape[-1]
    a_BHTR, b_BHTR, unrotated = x_BHTD.split([R, R, x_BHTD.shape[-1] - 2 * R], dim=-1)
    rotated = (a_BHTR * cos_B1TR - b_BHTR * sin_B1TR, b_BHTR * cos_B1TR + a_BHTR * sin_B1TR)
    return torch.cat([*rotated, unrotated], dim=-1).to(x_BHTD.dtype)


POSITIONS: dict[str, Callable[[ModelConfig], Positions]] = {
    "learned": Learned,
    "rope": Rope,
    "sinusoidal": Sinusoidal,
    "alibi": Alibi,
    "none": Positions,
}
