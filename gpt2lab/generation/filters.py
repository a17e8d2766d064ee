"""From logits to the next token: temperature, then top-k, then top-p, then a draw. Pure functions.

Legend: B = rows, V = vocabulary, K = candidates, the most likely tokens.
"""

import torch
from torch import Tensor

from gpt2lab.config import DecodingConfig

CANDIDATES = 1024
"""tokens among which top-k and top-p look before they sort the whole vocabulary"""
NOT_FINITE = -1
"""the "token" of a row whose logits are NaN or infinite"""


def next_tokens(logits_BV: Tensor, decoding: DecodingConfig, uniform_B: Tensor) -> Tensor:
    """The next token of each row, int64 [B], or NOT_FINITE.

    Args:
        logits_BV: float32.
        decoding: temperature and filters.
        uniform_B: float64 in [0, 1), one per row: the same number chooses the same token.
    """
    top_B, greedy_B = logits_BV.max(dim=-1)  # NaN counts as the largest
    ids_B = greedy_B if decoding.temperature == 0 else _draw_from_candidates(logits_BV, decoding, uniform_B)
    if ids_B is None:
        ids_B = draw(sampling_probs(logits_BV, decoding), uniform_B)
    return ids_B.where(top_B.isfinite(), NOT_FINITE)


def sampling_probs(logits_BV: Tensor, decoding: DecodingConfig) -> Tensor:
    """Probabilities of the next token, float32 [B, V]. Temperature 0: all on the most likely (the first, if tied)."""
    logits_BV = logits_BV.float()
    if decoding.temperature == 0:
        return torch.zeros_like(logits_BV).scatter_(-1, logits_BV.argmax(dim=-1, keepdim=True), 1.0)
    logits_BV = _scaled(logits_BV, logits_BV.amax(dim=-1, keepdim=True), decoding.temperature)
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
    """Keep the most likely tokens until they reach p, scaled to sum to 1. Holtzman et al. 2020, section 3.1."""
    sorted_BV, ids_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
    kept_BV = torch.zeros_like(probs_BV).scatter_(-1, ids_BV, sorted_BV.where(_nucleus(sorted_BV, p), 0))
    return kept_BV / kept_BV.sum(dim=-1, keepdim=True)


def draw(probs_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """One id per row, int64 [B]: the first whose cumulative probability exceeds the row's uniform number."""
    cumulative_BV = probs_BV.double().cumsum(dim=-1)
    # scaled by the row's sum, which rounding may leave off 1, so that the end of the row is never overshot
    threshold_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, threshold_B1, right=True)[:, 0]


def _draw_from_candidates(logits_BV: Tensor, decoding: DecodingConfig, uniform_B: Tensor) -> Tensor | None:
    """What ``draw(sampling_probs(...))`` returns, from the CANDIDATES most likely tokens; None if they do not suffice.

    On a CPU, where sorting the whole vocabulary takes longer than the rest of a step of a small model.
    """
    V = logits_BV.shape[-1]
    unfiltered = decoding.top_k is None and (decoding.top_p is None or decoding.top_p == 1)
    if unfiltered or V <= 4 * CANDIDATES or logits_BV.device.type != "cpu":
        return None
    values_BK, ids_BK = logits_BV.topk(CANDIDATES, dim=-1)
    # in the order of sampling_probs: by value, then by id
    ids_BK, by_id_BK = ids_BK.sort(dim=-1)
    values_BK, by_value_BK = values_BK.gather(-1, by_id_BK).sort(dim=-1, descending=True, stable=True)
    ids_BK = ids_BK.gather(-1, by_value_BK)
    top_B1 = values_BK[:, :1]
    scaled_BK = _scaled(values_BK, top_B1, decoding.temperature)
    kept_BK = torch.ones_like(ids_BK, dtype=torch.bool)
    if decoding.top_k is not None:
        kth = min(decoding.top_k, CANDIDATES) - 1
        kept_BK = values_BK >= values_BK[:, kth : kth + 1]
        total_B1 = scaled_BK.exp().where(kept_BK, 0).sum(dim=-1, keepdim=True)
    else:
        total_B1 = _scaled(logits_BV, top_B1, decoding.temperature).exp_().sum(dim=-1, keepdim=True)
    probs_BK = (scaled_BK.exp() / total_B1).where(kept_BK, 0)
    if decoding.top_p is not None:
        kept_BK = kept_BK & _nucleus(probs_BK, decoding.top_p, None if decoding.top_k is not None else 1.0)
    # a token equal to the last candidate may have equals that are no candidates
    if (kept_BK & (values_BK == values_BK[:, -1:])).any():
        return None
    # the draw goes through the tokens in the order of their ids
    ids_BK, by_id_BK = ids_BK.sort(dim=-1)
    chosen_B = draw(probs_BK.where(kept_BK, 0).gather(-1, by_id_BK), uniform_B)
    return ids_BK.gather(-1, chosen_B[:, None].clamp(max=CANDIDATES - 1))[:, 0]  # NaN would choose none


def _scaled(logits_BV: Tensor, top_B1: Tensor, temperature: float) -> Tensor:
    """(logits - the largest one) / temperature; in this order a tiny temperature cannot overflow."""
    return (logits_BV - top_B1) / max(temperature, torch.finfo(torch.float32).tiny)


def _nucleus(sorted_BV: Tensor, p: float, total: float | None = None) -> Tensor:
    """Which of the probabilities, sorted from the largest down, are needed to reach p of their sum."""
    # a token stays if those before it have not reached p yet, so the most likely one always does
    cumulative_BV = sorted_BV.double().cumsum(dim=-1)
    before_BV = cumulative_BV - sorted_BV
    # p is a share of the sum, which rounding leaves off 1: with p = 1 the sum would be reached before the last tokens
    reached = p * (cumulative_BV[:, -1:] if total is None else total)
    return before_BV < reached
