"""Cross-entropy of a linear head without the full logits: the vocabulary is met one group of tokens at a time.

    hidden_NC, weight_VC -> logits of a group -> softmax -> nll; and at once d nll / d hidden, d nll / d weight

Only one group's logits exist at a time, so memory stays at ``GROUP_LOGITS`` numbers however long the batch is. The
gradients are made on the way, while the group's probabilities are at hand, and are scaled when backward reaches them.

Legend: N = tokens, G = tokens of a group, C = n_embd, V = vocab_size, P = rows of the head, V and padding.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gpt2lab.config import IGNORE_INDEX

GROUP_LOGITS = 2**24
"""logits of one group: 64 MiB in float32, 333 tokens of GPT-2's vocabulary"""


def objective_sum(
    hidden_NC: Tensor, weight_PC: Tensor, targets_N: Tensor, vocab_size: int, z_loss: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Sum over the targets that are not IGNORE_INDEX of -log softmax(hidden weight^T)[target], and z-loss.

    Under autocast the matrix products and probabilities are in its format; sums are float32.

    Args:
        hidden_NC: floating point.
        weight_PC: floating point, the output head.
        targets_N: int64, in [0, V) or IGNORE_INDEX.
        vocab_size: V, the rows of the head that are token ids; those after it have no probability.
        z_loss: weight of log^2 Z, Z the softmax's denominator, which keeps logits from drifting away together
            (Chowdhery et al. 2022, section 5).

    Returns:
        Float32 scalars: the sum with z_loss's terms, differentiable once in ``hidden_NC`` and ``weight_PC``, and the
        sum without them, in nats, a mere figure.
    """
    dtype = _matmul_dtype(hidden_NC)
    with torch.autocast(hidden_NC.device.type, enabled=False):  # it would make float32 copies for the softmax
        objective, nll = _LinearCrossEntropy.apply(hidden_NC, weight_PC, targets_N, vocab_size, z_loss, dtype)
    return objective, nll


@torch.no_grad()
def target_nll(hidden_NC: Tensor, weight_PC: Tensor, targets_N: Tensor, vocab_size: int) -> Tensor:
    """The negative log-likelihood of each target, float32 [N]; 0 where it is IGNORE_INDEX. No gradient."""
    dtype = _matmul_dtype(hidden_NC)
    weight_PC = weight_PC.to(dtype)
    nll_N = torch.empty(len(targets_N), dtype=torch.float32, device=hidden_NC.device)
    for group in _groups(len(targets_N), len(weight_PC)):
        logits_GV = F.linear(hidden_NC[group].to(dtype), weight_PC)[:, :vocab_size].float()
        nll_N[group] = F.cross_entropy(logits_GV, targets_N[group], ignore_index=IGNORE_INDEX, reduction="none")
    return nll_N


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NC: Tensor,
        weight_PC: Tensor,
        targets_N: Tensor,
        vocab_size: int,
        z_loss: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        scored_N1 = (targets_N != IGNORE_INDEX)[:, None]
        # an ignored row still needs some id to gather; its weight of 0 takes it out of the sum and of both gradients
        targets_N1 = targets_N[:, None].where(scored_N1, 0)
        hidden, weight = hidden_NC.to(dtype), weight_PC.to(dtype)
        grad_hidden_NC = torch.empty_like(hidden)
        grad_weight_PC = torch.zeros_like(weight_PC, dtype=torch.float32)
        grad_weight_of_group_PC = torch.empty_like(weight)
        # results go into these buffers: on a CPU, touching fresh memory costs more than the arithmetic
        groups = _groups(len(targets_N), len(weight))
        rows = len(targets_N[groups[0]]) if groups else 0
        logits_buffer, probs_buffer = (torch.empty(rows, len(weight), dtype=dtype, device=hidden.device) for _ in "lp")
        nll, squares = torch.zeros(2, dtype=torch.float32, device=hidden.device)

        for group in groups:
            hidden_GC, targets_G1, scored_G1 = hidden[group], targets_N1[group], scored_N1[group]
            logits_GP = torch.mm(hidden_GC, weight.t(), out=logits_buffer[: len(hidden_GC)])
            logits_GP[:, vocab_size:] = -torch.inf
            probs_GP = torch.softmax(logits_GP, dim=1, out=probs_buffer[: len(hidden_GC)])
            largest_G1 = logits_GP.amax(1, keepdim=True).float()
            # the likeliest id's p is far from 0, so its log is precise
            log_z_minus_largest_G1 = -probs_GP.amax(1, keepdim=True).float().log()
            # the logits are subtracted first: beside a large logit the rest of the loss would lose its last digits
            behind_G1 = largest_G1 - logits_GP.gather(1, targets_G1).float()
            nll += (behind_G1 + log_z_minus_largest_G1).mul(scored_G1).sum()
            grad_logits_GP = probs_GP
            if z_loss:
                log_z_G1 = largest_G1 + log_z_minus_largest_G1
                squares += log_z_G1.square().mul(scored_G1).sum()
                grad_logits_GP *= (1 + 2 * z_loss * log_z_G1).to(dtype)
            grad_logits_GP[torch.arange(len(probs_GP), device=probs_GP.device), targets_G1[:, 0]] -= 1
            torch.mm(grad_logits_GP, weight, out=grad_hidden_NC[group])
            torch.mm(grad_logits_GP.t(), hidden_GC * scored_G1, out=grad_weight_of_group_PC)
            grad_weight_PC += grad_weight_of_group_PC

        ctx.grads = (grad_hidden_NC.mul_(scored_N1).to(hidden_NC.dtype), grad_weight_PC.to(weight_PC.dtype))
        ctx.mark_non_differentiable(nll)
        return nll + z_loss * squares, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_objective: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        grad_hidden_NC, grad_weight_PC = ctx.grads
        return grad_hidden_NC * grad_objective, grad_weight_PC * grad_objective, None, None, None, None


def _groups(n_tokens: int, vocab_size: int) -> list[slice]:
    n_groups = max(1, math.ceil(n_tokens * vocab_size / GROUP_LOGITS))
    size = max(1, math.ceil(n_tokens / n_groups))
    return [slice(first, first + size) for first in range(0, n_tokens, size)]


def _matmul_dtype(hidden_NC: Tensor) -> torch.dtype:
    kind = hidden_NC.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_NC.dtype
