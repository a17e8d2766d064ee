"""The logit lens: what the model would predict if its last block were this one.

The residual stream after each block goes through the final norm and the head (nostalgebraist 2020). Blocks in between
were trained to be followed by others, so an early row is a reading, not a belief of the model.

Legend: L = n_layer + 1 (before the first block, then after each one), T = tokens, N = most likely tokens kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2lab.explain.trace import Trace
from gpt2lab.model import GPT, evaluation_mode


@dataclass(frozen=True)
class Lens:
    """Predictions after each block."""

    ids_LTN: Tensor
    """int64, the most likely first"""
    probs_LTN: Tensor
    rank_LT: Tensor
    """int64, place of the token that follows, 1 = most likely"""


@torch.no_grad()
def logit_lens(model: GPT, trace: Trace, following: Sequence[int], n: int = 5) -> Lens:
    """Read every position after every block.

    Args:
        model: the model of the trace.
        trace: from ``trace(model, ids)``.
        following: the token that follows each position, T ids.
        n: most likely tokens to keep.
    """
    following_T1 = torch.tensor(list(following))[:, None]
    device = model.wte.weight.device
    ids, probs, ranks = [], [], []
    with evaluation_mode(model), torch.autocast(device.type, enabled=False):
        for residual_TC in trace.residual_LTC:
            logits_TV = model.logits(model.norm_f(residual_TC.to(device))).float().cpu()
            probs_TV = logits_TV.softmax(dim=-1)
            top = probs_TV.topk(min(n, probs_TV.shape[-1]), dim=-1)
            ids.append(top.indices)
            probs.append(top.values)
            ranks.append((logits_TV > logits_TV.gather(1, following_T1)).sum(dim=-1) + 1)
    return Lens(torch.stack(ids), torch.stack(probs), torch.stack(ranks))
