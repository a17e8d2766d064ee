"""From logits to the probabilities a token is drawn with: temperature, then top-k, then top-p. Pure functions.

Legend: B = rows, V = vocabulary.
"""

import torch
from torch import Tensor

from gpt2lab.config import SamplingConfig, UserError


def sampling_probs(logits_BV: Tensor, sampling: SamplingConfig) -> Tensor:
    """Probabilities of the next token, float32 [B, V]; with temperature 0, all on the likeliest (the first, if tied).

    Raises:
        UserError: a logit is NaN, or all of a row's are infinite.
    """
    logits_BV = logits_BV.float()
    top_B1 = logits_BV.amax(dim=-1, keepdim=True)
    if not top_B1.isfinite().all():
        raise UserError("the model's logits are not numbers: the checkpoint is damaged or its training diverged")
    if sampling.temperature == 0:
        return torch.zeros_like(logits_BV).scatter_(-1, logits_BV.argmax(dim=-1, keepdim=True), 1.0)
    # the largest logit is taken away first, so that a tiny temperature cannot overflow
    logits_BV = (logits_BV - top_B1) / max(sampling.temperature, torch.finfo(torch.float32).tiny)
    if sampling.top_k is not None:
        logits_BV = keep_top_k(logits_BV, sampling.top_k)
    probs_BV = logits_BV.softmax(dim=-1)
    if sampling.top_p is not None:
        probs_BV = keep_top_p(probs_BV, sampling.top_p)
    return probs_BV


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits of a row to -inf; those equal to the k-th stay too. k above V keeps all."""
    kth_B1 = logits_BV.topk(min(k, logits_BV.shape[-1]), dim=-1).values[:, -1:]
    return logits_BV.masked_fill(logits_BV < kth_B1, -torch.inf)


def keep_top_p(probs_BV: Tensor, p: float) -> Tensor:
    """Keep the likeliest tokens until they reach p, scaled to sum to 1. Holtzman et al. 2020, section 3.1."""
    sorted_BV, ids_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
    # a token stays if those before it have not reached p yet, so the likeliest one always does
    cumulative_BV = sorted_BV.double().cumsum(dim=-1)
    before_BV = cumulative_BV - sorted_BV
    # p is a share of the sum, which rounding leaves off 1: with p = 1 the sum would be reached before the last tokens
    kept_BV = torch.zeros_like(probs_BV).scatter_(-1, ids_BV, sorted_BV.where(before_BV < p * cumulative_BV[:, -1:], 0))
    return kept_BV / kept_BV.sum(dim=-1, keepdim=True)
