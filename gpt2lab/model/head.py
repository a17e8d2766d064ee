"""The output head: hidden states times the head's matrix, with float32 results.

Logits in bf16 would be wrong where it matters: those of GPT-2 reach -100, where bf16 numbers are 0.5 apart.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def head_logits(hidden: Tensor, weight_PC: Tensor) -> Tensor:
    """hidden weight^T, [..., P], in float32, or in float64 where both inputs are.

    On a GPU under autocast the factors are rounded to its dtype, and the sums are float32. On a CPU, where PyTorch has
    no such product, the factors stay float32. The result is in autocast's dtype only where a gradient is recorded.
    """
    kind = hidden.device.type
    dtype = matmul_dtype(hidden)
    needs_gradient = torch.is_grad_enabled() and (hidden.requires_grad or weight_PC.requires_grad)
    if needs_gradient or dtype in (torch.float32, torch.float64):
        return F.linear(hidden, weight_PC)
    with torch.autocast(kind, enabled=False):
        if kind == "cuda":
            hidden_NC = hidden.reshape(-1, hidden.shape[-1]).to(dtype)
            logits_NP = torch.mm(hidden_NC, weight_PC.to(dtype).t(), out_dtype=torch.float32)
            return logits_NP.view(*hidden.shape[:-1], len(weight_PC))
        return F.linear(hidden.float(), weight_PC.float())


def matmul_dtype(x: Tensor) -> torch.dtype:
    """The dtype of a matrix product with ``x``: autocast's where it is enabled, else that of ``x``."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
