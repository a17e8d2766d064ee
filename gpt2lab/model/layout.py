"""Layout of a batch: the position of each token, and which earlier tokens it may attend to.

    positions and segments of the new tokens and of all tokens seen -> attention mask

Left-padded prompts and documents packed into one row are the same case: a token attends within its own segment. Texts
with a common beginning can share it in one row: it is a segment that all later tokens attend to.

Legend: B = batch (or 1), T = new tokens, S = tokens seen (cached and new), H = heads (or 1).
"""

from typing import NamedTuple

import torch
from torch import Tensor

SHARED = -1
"""the segment that the later tokens of all segments attend to"""


class Layout(NamedTuple):
    """Positions and segments of the tokens of a batch."""

    pos_BT: Tensor
    """int64, counted from 0 within a segment"""
    segment_BT: Tensor | None = None
    """int64; a token attends only to its own segment and to SHARED. None: all tokens are one segment"""

    def to(self, device: torch.device) -> "Layout":
        """The layout on ``device``."""
        return Layout(self.pos_BT.to(device), None if self.segment_BT is None else self.segment_BT.to(device))


def contiguous(first: int, T: int, device: torch.device) -> Layout:
    """T tokens at positions first, first + 1, ... in every row."""
    return Layout(torch.arange(first, first + T, device=device)[None])


def attention_mask(new: Layout, seen: Layout, bias_BHTS: Tensor | None) -> Tensor | None:
    """Attention mask of T new tokens over the S tokens seen, the last T of which are the new ones.

    Args:
        new: the queries' layout.
        seen: the keys' layout.
        bias_BHTS: added to the scores where attention is allowed, or None.

    Returns:
        None if no mask is needed: attention is causal over T = S tokens, or a single token sees everything.
        Without a bias, bool [B, 1, T, S], True = may attend. With a bias, float32 [B, H, T, S], -inf = may not.
    """
    T, S = new.pos_BT.shape[1], seen.pos_BT.shape[1]
    if bias_BHTS is None and new.segment_BT is None and T in (1, S):
        return None
    allowed_BHTS = causal_mask(T, S - T, new.pos_BT.device)[None, None]
    if new.segment_BT is not None and seen.segment_BT is not None:
        own_BHTS = new.segment_BT[:, None, :, None] == seen.segment_BT[:, None, None, :]
        allowed_BHTS = allowed_BHTS & (own_BHTS | (seen.segment_BT == SHARED)[:, None, None, :])
    return allowed_BHTS if bias_BHTS is None else bias_BHTS.masked_fill(~allowed_BHTS, -torch.inf)


def causal_mask(T: int, past: int, device: torch.device) -> Tensor:
    """True where new token t may attend to key s: all ``past`` cached keys and the new ones up to t. [T, past + T]."""
    return torch.ones(T, past + T, dtype=torch.bool, device=device).tril(diagonal=past)
