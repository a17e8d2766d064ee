"""Cross-entropy of a linear head without the full logits: one group of tokens meets the vocabulary at a time.

For a token with hidden state h and target t, and with a reference r near the target's logit x_t:

    e_v = exp(h w_v - r)        all ids v, in one product that starts from -r and one exponential in place
    rest = sum of e_v, v != t
    nll = -log p_t = log(1 + rest / exp(x_t - r))
    d nll / d x_v = e_v / (rest + e_t) for v != t;  for the target -rest / (rest + e_t), which is p_t - 1 exactly

Only one group's e_v are in memory. The gradients are computed at once, while they are, and are scaled when backward
reaches them. Because -r enters the product's float32 accumulator, what is rounded to bf16 is the distance to the
target's logit. The logits themselves may be large: GPT-2's reach -100, where bf16 numbers are 0.5 apart.

Legend: N = tokens, G = tokens of a group, C = n_embd, V = vocab_size, P = rows of the head: V and padding.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gpt2lab.config import IGNORE_INDEX
from gpt2lab.model.head import matmul_dtype

GROUP_LOGITS = {"cpu": 512 * 50_304, "cuda": 2**29}
"""logits of one group by device: what is fastest on a CPU (docs/speed.md), and 1 GiB in bf16 on a GPU"""
PADDING = 128
"""the copy of the head in autocast's dtype has a multiple of this many rows, which suits the kernels of a GPU; and the
rows of the logits are a multiple of it apart: products write rows of 50,257 numbers more slowly (docs/speed.md)"""
LARGE_SUM = 2.0**64
"""sum of a row's e_v from which the row's largest is subtracted: half of float32's exponents are left for products"""


def objective_sum(
    hidden_NC: Tensor, weight_PC: Tensor, targets_N: Tensor, vocab_size: int, z_loss: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Sum over the targets that are not IGNORE_INDEX of -log softmax(hidden weight^T)[target], and z-loss.

    Under autocast the matrix products are in its dtype; sums are float32.

    Args:
        hidden_NC: floating point.
        weight_PC: floating point, the output head.
        targets_N: int64, in [0, V) or IGNORE_INDEX.
        vocab_size: V, the rows of the head that are token ids; the rows after them are padding, without probability.
        z_loss: weight of log^2 Z, where Z is the softmax's denominator. It keeps logits from drifting away together
            (Chowdhery et al. 2022, section 5).

    Returns:
        Float32 scalars: the sum with z-loss, differentiable once in ``hidden_NC`` and ``weight_PC``, and the sum
        without it, in nats, a metric.
    """
    dtype = matmul_dtype(hidden_NC)
    with torch.autocast(hidden_NC.device.type, enabled=False):
        objective, nll = _LinearCrossEntropy.apply(hidden_NC, weight_PC, targets_N, vocab_size, z_loss, dtype)
    return objective, nll


@torch.no_grad()
def target_nll(hidden_NC: Tensor, weight_PC: Tensor, targets_N: Tensor, vocab_size: int) -> Tensor:
    """The negative log-likelihood of each target, float32 [N]; 0 where it is IGNORE_INDEX. No gradient."""
    dtype = matmul_dtype(hidden_NC)
    with torch.autocast(hidden_NC.device.type, enabled=False):
        hidden, weight = hidden_NC.to(dtype), _padded(weight_PC, dtype)
        scored_N = targets_N != IGNORE_INDEX
        targets_N1 = targets_N.where(scored_N, 0)[:, None]
        nll_N = torch.empty(len(targets_N), dtype=torch.float32, device=hidden.device)
        groups = _groups(hidden, weight)
        buffer = _buffer(groups, hidden, weight)
        for group in groups:
            result = _exponentials(hidden[group], weight, targets_N1[group], vocab_size, buffer)
            nll_N[group] = result.nll_G1[:, 0].float()
    return nll_N.where(scored_N, 0)


def loss_memory_bytes(n_tokens: int, head_rows: int, n_embd: int, dtype: torch.dtype, device_type: str) -> int:
    """Memory that ``objective_sum`` takes beside its inputs.

    Logits of a group, the head's copy in ``dtype``, and the float32 gradients of the head and the hidden states.
    """
    rows = head_rows if dtype == torch.float32 else _round_up(head_rows)
    logits = _group_size(n_tokens, rows, device_type) * _round_up(rows)
    copied = 0 if dtype == torch.float32 else rows * n_embd
    gradients = (rows + n_tokens) * n_embd
    return dtype.itemsize * (logits + copied) + torch.float32.itemsize * gradients


class _Exponentials(NamedTuple):
    exp_GP: Tensor
    """e_v; 0 for the target and for padding"""
    target_exp_G1: Tensor
    """e_t, float32 or float64 like all that follows"""
    rest_G1: Tensor
    """sum of ``exp_GP``"""
    nll_G1: Tensor
    target_logit_G1: Tensor


def _exponentials(
    hidden_GC: Tensor, weight_PC: Tensor, targets_G1: Tensor, vocab_size: int, buffer: Tensor
) -> _Exponentials:
    """The quantities of the module's docstring, for one group; ``exp_GP`` is in ``buffer``."""
    dtype, wide = hidden_GC.dtype, torch.promote_types(hidden_GC.dtype, torch.float32)
    target_weight_GC = weight_PC[targets_G1[:, 0]]
    target_logit_G1 = (hidden_GC.to(wide) * target_weight_GC.to(wide)).sum(1, keepdim=True)
    reference_G1 = target_logit_G1.to(dtype)

    def relative_logits() -> Tensor:
        return torch.addmm(-reference_G1, hidden_GC, weight_PC.t(), out=buffer[: len(hidden_GC)])

    def rest_of(logits_GP: Tensor) -> Tensor:
        logits_GP.exp_()
        logits_GP[:, vocab_size:] = 0
        logits_GP[torch.arange(len(logits_GP), device=logits_GP.device), targets_G1[:, 0]] = 0
        return _row_sums(logits_GP, wide)

    exp_GP, shift_G1 = relative_logits(), torch.zeros_like(target_logit_G1)
    fast = exp_GP.device.type == "cpu" and dtype != torch.float16
    if not fast:
        shift_G1 = _subtract_excess(exp_GP, vocab_size)
    rest_G1 = rest_of(exp_GP)
    if fast and not (rest_G1 < LARGE_SUM).all():  # or NaN
        shift_G1 = _subtract_excess(relative_logits(), vocab_size)
        rest_G1 = rest_of(exp_GP)
    distance_G1 = target_logit_G1 - reference_G1 - shift_G1
    # log(1 + exp(log rest - distance)) keeps the digits of a small loss and does not overflow for a large one
    nll_G1 = F.softplus(rest_G1.log() - distance_G1)
    return _Exponentials(exp_GP, distance_G1.exp(), rest_G1, nll_G1, target_logit_G1)


def _subtract_excess(logits_GP: Tensor, vocab_size: int) -> Tensor:
    """Subtract in place what a row's largest logit is above 0, so that no exponential overflows; return it."""
    excess_G1 = logits_GP[:, :vocab_size].amax(1, keepdim=True).clamp_(min=0)
    logits_GP -= excess_G1
    return excess_G1.to(torch.promote_types(excess_G1.dtype, torch.float32))


def _row_sums(exp_GP: Tensor, wide: torch.dtype) -> Tensor:
    """Sums of the rows, [G, 1] in ``wide``."""
    G, P = exp_GP.shape
    if exp_GP.device.type == "cpu" and exp_GP.dtype == torch.bfloat16 and P % PADDING == 0:
        # measured: sums of bf16 with a float32 result take nine times as long. The partial sums are float32 too, each
        # rounded once, so that their errors are no larger than those of the numbers themselves.
        exp_GP = exp_GP.view(G, -1, PADDING).sum(2)
    return exp_GP.sum(1, keepdim=True, dtype=wide)


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
        # an ignored row still needs some id; its scale of 0 takes it out of the sum and of both gradients
        targets_N1 = targets_N[:, None].where(scored_N1, 0)
        hidden, weight = hidden_NC.to(dtype), _padded(weight_PC, dtype)
        wide = torch.promote_types(dtype, torch.float32)
        grad_hidden_NC = torch.empty_like(hidden, dtype=wide)
        grad_weight_PC = torch.zeros_like(weight, dtype=wide)
        groups = _groups(hidden, weight)
        buffer = _buffer(groups, hidden, weight)
        nll, squares = torch.zeros(2, dtype=wide, device=hidden.device)

        for group in groups:
            exp_GP, target_exp_G1, rest_G1, nll_G1, target_logit_G1 = _exponentials(
                hidden[group], weight, targets_N1[group], vocab_size, buffer
            )
            scored_G1 = scored_N1[group]
            nll += nll_G1.where(scored_G1, 0).sum()
            # exp_GP becomes the gradient of the logits, up to the scale of each row
            scale_G1 = scored_G1 / (rest_G1 + target_exp_G1)
            target_grad_G1 = -rest_G1
            if z_loss:
                log_z_G1 = nll_G1 + target_logit_G1
                squares += log_z_G1.square().where(scored_G1, 0).sum()
                factor_G1 = 1 + 2 * z_loss * log_z_G1
                exp_GP *= factor_G1.to(dtype)
                target_grad_G1 = target_exp_G1 * (factor_G1 - 1) - rest_G1
            if dtype == torch.float16:  # whose range is too small for a scale beside the numbers
                exp_GP *= scale_G1.to(dtype)
                target_grad_G1, scale_G1 = target_grad_G1 * scale_G1, scored_G1.to(wide)
            rows_G = torch.arange(len(exp_GP), device=exp_GP.device)
            exp_GP[rows_G, targets_N1[group, 0]] = target_grad_G1[:, 0].to(dtype)
            torch.mul(exp_GP @ weight, scale_G1, out=grad_hidden_NC[group])
            _add_product(grad_weight_PC, exp_GP.t(), (hidden[group] * scale_G1).to(dtype))

        # resized, not sliced: autograd adds the embedding's gradient in place only to a tensor that is no view
        grad_weight_PC.resize_(weight_PC.shape)
        ctx.grads = (grad_hidden_NC.to(hidden_NC.dtype), grad_weight_PC.to(weight_PC.dtype))
        ctx.mark_non_differentiable(nll := nll.float())
        return (nll + z_loss * squares).float(), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_objective: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        if ctx.grads is None:
            raise RuntimeError("the gradients of this loss have been used: call it again for a second backward")
        # in place: the gradient of the head is as large as the head
        grad_hidden_NC, grad_weight_PC = (grad.mul_(grad_objective) for grad in ctx.grads)
        ctx.grads = None
        return grad_hidden_NC, grad_weight_PC, None, None, None, None


def _add_product(sum_PC: Tensor, a_PG: Tensor, b_GC: Tensor) -> None:
    """sum += a b, in float32 also where the factors are not."""
    if a_PG.dtype == sum_PC.dtype:
        torch.addmm(sum_PC, a_PG, b_GC, out=sum_PC)
    elif sum_PC.device.type == "cuda":
        torch.addmm(sum_PC, a_PG, b_GC, out_dtype=sum_PC.dtype, out=sum_PC)
    else:
        sum_PC += a_PG @ b_GC


def _padded(weight_PC: Tensor, dtype: torch.dtype) -> Tensor:
    """The head in ``dtype``; a copy that has to be made gets rows of zeros up to a multiple of PADDING."""
    if weight_PC.dtype == dtype:
        return weight_PC
    P, C = weight_PC.shape
    padded = torch.zeros(_round_up(P), C, dtype=dtype, device=weight_PC.device)
    padded[:P] = weight_PC
    return padded


def _groups(hidden_NC: Tensor, weight_PC: Tensor) -> list[slice]:
    """Groups of equal size, but for the last one."""
    n_tokens = len(hidden_NC)
    size = _group_size(n_tokens, len(weight_PC), hidden_NC.device.type)
    return [slice(first, first + size) for first in range(0, n_tokens, size)]


def _group_size(n_tokens: int, head_rows: int, device_type: str) -> int:
    """Tokens of a group."""
    limit = GROUP_LOGITS["cuda" if device_type == "cuda" else "cpu"]
    n_groups = max(1, math.ceil(n_tokens * head_rows / limit))
    return max(1, math.ceil(n_tokens / n_groups))


def _buffer(groups: list[slice], hidden_NC: Tensor, weight_PC: Tensor) -> Tensor:
    """Memory for the logits of a group, reused: on a CPU, touching fresh memory costs more than the arithmetic."""
    rows, P = len(hidden_NC[groups[0]]) if groups else 0, len(weight_PC)
    return torch.empty(rows, _round_up(P), dtype=hidden_NC.dtype, device=hidden_NC.device)[:, :P]


def _round_up(rows: int) -> int:
    return -(-rows // PADDING) * PADDING
