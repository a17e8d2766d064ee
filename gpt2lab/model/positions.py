"""Position variants: ``POSITIONS[name](config)`` meets the model in three places.

    x_BTC -> embed(x, pos) -> blocks; inside each attention: q, k -> rotate(q, k, tables) -> scores + bias(pos, pos)

Positions arrive as a tensor with one number a token, not as one offset, so that cached decoding, left-padded rows
and documents that start again at 0 need no code of their own. ``tables`` and ``bias`` are computed once a forward
pass and shared by all layers. Nothing is stored, so that no cast of the model rounds a table.

Legend: B = batch (or 1), T = tokens, S = tokens seen, C = n_embd, H = heads, D = head_dim, R = rotated pairs.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gpt2lab.config import ModelConfig, UserError

Tables = tuple[Tensor, ...]


class Positions(nn.Module):
    """The interface, and its neutral element: no information about positions but what the causal mask gives.

    Haviv et al. 2022 and Kazemnejad et al. 2023 train language models with no more than that.
    """

    max_length: int | None = None
    """positions there are; None: any number"""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def embed(self, x_BTC: Tensor, pos_BT: Tensor) -> Tensor:
        """Add what the scheme adds to the token embeddings. ``pos_BT``: int64, [B or 1, T]."""
        return x_BTC

    def tables(self, pos_BT: Tensor) -> Tables:
        """What ``rotate`` needs at these positions; float32 whatever the model's format."""
        return ()

    def rotate(self, q_BHTD: Tensor, k_BHTD: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        """Put the positions into queries and keys, before the keys are cached."""
        return q_BHTD, k_BHTD

    def bias(self, pos_BT: Tensor, pos_BS: Tensor) -> Tensor | None:
        """What is added to the scores of queries at ``pos_BT`` with keys at ``pos_BS``: [B, H, T, S] or None."""
        return None


class Learned(Positions):
    """GPT-2's: one learned vector a position, added to the token embedding; none beyond ``block_size``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.max_length = config.block_size
        self.wpe = nn.Embedding(config.block_size, config.n_embd)

    def embed(self, x_BTC: Tensor, pos_BT: Tensor) -> Tensor:
        """Add the vectors of these positions."""
        return x_BTC + self.wpe(pos_BT)


class Sinusoidal(Positions):
    """Fixed waves, divided by sqrt(C), added to the token embeddings. Vaswani et al. 2017, sections 3.4 and 3.5.

    Channel 2i is sin(pos / 10000^(2i/C)), channel 2i + 1 the cosine. The paper multiplies the embeddings by sqrt(C)
    instead, which is the same sum times sqrt(C). Next to branches that begin as GPT-2's do, a sum that large would
    stay nearly all of the residual stream, and a tied head would answer each token with the token itself.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.n_embd % 2:
            raise UserError(f"model.positions=sinusoidal fills pairs of channels: model.n_embd={config.n_embd} is odd")
        self.n_embd = config.n_embd

    def embed(self, x_BTC: Tensor, pos_BT: Tensor) -> Tensor:
        """Add the waves at these positions, scaled."""
        angle_BTR = pos_BT[..., None].float() * _frequencies(self.n_embd, 10_000.0, pos_BT.device)
        waves_BTC = torch.stack([angle_BTR.sin(), angle_BTR.cos()], dim=-1).flatten(-2)
        return x_BTC + (waves_BTC / math.sqrt(self.n_embd)).to(x_BTC.dtype)


class Rope(Positions):
    """Rotary positions: pair r of the head's channels turns by pos * theta^(-r/R). Su et al. 2021, equation 34.

    The pairs are (r, r + R), the layout of GPT-NeoX and of Llama in ``transformers``; the paper's pairs (2r, 2r + 1)
    are the same function under a fixed permutation of the channels. With ``rope_fraction`` below 1 only the first
    2R channels of a head turn, as in GPT-NeoX (Black et al. 2022, section 2.1).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.rotated = int(config.head_dim * config.positions.rope_fraction)
        if self.rotated % 2 or not self.rotated:
            raise UserError(
                f"model.positions=rope turns pairs of channels: rope_fraction x head_dim = "
                f"{config.positions.rope_fraction} x {config.head_dim} = {self.rotated} is not an even number above 0; "
                "choose model.n_head so that it is"
            )
        self.theta = config.positions.rope_theta

    def tables(self, pos_BT: Tensor) -> Tables:
        """Cosines and sines, float32 [B or 1, 1, T, R] each."""
        angle_B1TR = pos_BT[:, None, :, None].float() * _frequencies(self.rotated, self.theta, pos_BT.device)
        return angle_B1TR.cos(), angle_B1TR.sin()

    def rotate(self, q_BHTD: Tensor, k_BHTD: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        """Turn queries and keys; the product is in float32, the result in the input's format."""
        return _rotate_pairs(q_BHTD, *tables), _rotate_pairs(k_BHTD, *tables)


class Alibi(Positions):
    """Scores fall linearly with the distance, each head with a slope of its own. Press et al. 2022, section 3."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.slopes = alibi_slopes(config.n_head)

    def bias(self, pos_BT: Tensor, pos_BS: Tensor) -> Tensor:
        """-slope * (query's position - key's position)."""
        slopes_H11 = torch.tensor(self.slopes, device=pos_BT.device)[:, None, None]
        return slopes_H11 * (pos_BS[:, None, None, :] - pos_BT[:, None, :, None]).float()


def alibi_slopes(n_head: int) -> list[float]:
    """The paper's: 2^(-8h/H) for H a power of 2; else those of the power below it, then every other of the one above.

    The second half of the rule is that of the authors' code.
    """
    below = 2 ** math.floor(math.log2(n_head))
    slopes = [2 ** (-8 * h / below) for h in range(1, below + 1)]
    return slopes + [2 ** (-4 * h / below) for h in range(1, 2 * (n_head - below), 2)]


def _frequencies(channels: int, theta: float, device: torch.device) -> Tensor:
    """theta^(-2r/channels) for each pair r of ``channels``, float32 [R]."""
    exponent_R = torch.arange(0, channels, 2, device=device, dtype=torch.float32) / channels
    return theta**-exponent_R


def _rotate_pairs(x_BHTD: Tensor, cos_B1TR: Tensor, sin_B1TR: Tensor) -> Tensor:
    R = cos_B1TR.shape[-1]
    a_BHTR, b_BHTR, unturned = x_BHTD.split([R, R, x_BHTD.shape[-1] - 2 * R], dim=-1)
    turned = (a_BHTR * cos_B1TR - b_BHTR * sin_B1TR, b_BHTR * cos_B1TR + a_BHTR * sin_B1TR)
    return torch.cat([*turned, unturned], dim=-1).to(x_BHTD.dtype)


POSITIONS: dict[str, Callable[[ModelConfig], Positions]] = {
    "learned": Learned,
    "rope": Rope,
    "sinusoidal": Sinusoidal,
    "alibi": Alibi,
    "none": Positions,
}
