"""From logits to the next token: temperature, then top-k, then top-p, then a draw. Pure functions.

Legend: B = rows, V = vocabulary.
"""

import torch
from torch import Tensor

from gpt2lab.config import DecodingConfig

NOT_FINITE = -1
"""the "token" of a row whose logits are NaN or infinite"""
NOT_FINITE_ERROR = "the model's logits are NaN or infinite: the checkpoint is damaged or its training diverged"


def next_tokens(logits_BV: Tensor, decoding: DecodingConfig, uniform_B: Tensor) -> Tensor:
    """The next token of each row, int64 [B], or NOT_FINITE.

    Args:
        logits_BV: float32.
        decoding: temperature and filters.
        uniform_B: float64 in [0, 1), one per row: the same number chooses the same token.
    """
    if decoding.temperature == 0:
        ids_B = logits_BV.argmax(dim=-1)
    else:
        ids_B = draw(sampling_probs(logits_BV, decoding), uniform_B)
    return ids_B.where(logits_BV.amax(dim=-1).isfinite(), NOT_FINITE)  # the maximum of a row with NaN is NaN


def sampling_probs(logits_BV: Tensor, decoding: DecodingConfig) -> Tensor:
    """Probabilities of the next token, float32 [B, V]. Temperature 0: all on the most likely (the first, if tied)."""
    logits_BV = logits_BV.float()
    if decoding.temperature == 0:
        return torch.zeros_like(logits_BV).scatter_(-1, logits_BV.argmax(dim=-1, keepdim=True), 1.0)
    if decoding.temperature != 1:
        # the largest logit is subtracted first, so that a tiny temperature cannot overflow
        logits_BV = logits_BV - logits_BV.amax(dim=-1, keepdim=True)
        logits_BV /= max(decoding.temperature, torch.finfo(torch.float32).tiny)
    if decoding.top_k is not None:
        logits_BV = keep_top_k(logits_BV, decoding.top_k)
    probs_BV = logits_BV.softmax(dim=-1)
    if decoding.top_p is not None:
        probs_BV = keep_top_p(probs_BV, decoding.top_p)
    return probs_BV


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits of a row to -inf; those equal to the k-th stay too. k above V keeps all."""
    kth_B1 = logits_BV.topk(min(k, logits_BV.shape[-1]), dim=-1).values[:, -1:]
    return logits_BV.masked_fill(logits_BV < kth_B1, -torch.inf)


def keep_top_p(probs_BV: Tensor, p: float) -> Tensor:
    """Keep the most likely tokens until they reach p, scaled to sum to 1. Holtzman et al. 2020, section 3.1.

    Of equally likely tokens the first ones are kept.
    """
    if probs_BV.device.type == "cpu":
        kept_BV = torch.stack([_keep_top_p_of_row(probs_V, p) for probs_V in probs_BV])
    else:
        sorted_BV, ids_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
        needed_BV = _is_needed(sorted_BV, p, probs_BV.sum(dim=-1, keepdim=True, dtype=torch.float64))
        kept_BV = torch.zeros_like(probs_BV).scatter_(-1, ids_BV, sorted_BV.where(needed_BV, 0))
    return kept_BV / kept_BV.sum(dim=-1, keepdim=True)


def draw(probs_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """One id per row, int64 [B]: the first whose cumulative probability exceeds the row's uniform number."""
    cumulative_BV = probs_BV.cumsum(dim=-1, dtype=torch.float64)
    # scaled by the row's sum, which rounding may leave off 1, so that the end of the row is never overshot
    threshold_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, threshold_B1, right=True)[:, 0]


def _keep_top_p_of_row(probs_V: Tensor, p: float) -> Tensor:
    """``keep_top_p`` before scaling, sorting only tokens that can be needed.

    A CPU sorts GPT-2's vocabulary in 8 ms, a third of a step of GPT-2 small. Tokens below (1 - p)/V together have less
    than 1 - p, so all others together reach p without them. Half of that bound leaves room for rounding.
    """
    likely_n = (probs_V >= (1 - p) / (2 * len(probs_V))).nonzero()[:, 0]
    sorted_n, order_n = probs_V[likely_n].sort(descending=True, stable=True)
    needed_n = _is_needed(sorted_n, p, probs_V.sum(dtype=torch.float64))
    return torch.zeros_like(probs_V).index_put_((likely_n[order_n],), sorted_n.where(needed_n, 0))


def _is_needed(sorted_: Tensor, p: float, total: Tensor) -> Tensor:
    """Which of the probabilities, sorted from the largest down, are needed to reach p of their total, float64."""
    before = sorted_.cumsum(dim=-1, dtype=torch.float64) - sorted_
    # a token stays if those before it have not reached p yet, so the most likely one always does; p is a share of the
    # sum, which rounding leaves off 1: with p = 1 it would be reached before the last tokens
    return before < p * total
