"""What each part of the model adds to the logits.

The residual stream is a sum: embeddings, every head, every MLP, and the biases of their output projections. The final
norm is the only step between this sum and the logits that is no linear map. With its statistics fixed at their values
in this pass (the norms' method ``linearized``) it is one, and the logits fall apart into one term per part:

    LayerNorm   y = gain (x - mean(x)) / s + bias,  s = sqrt(variance(x) + eps) of this pass
    RMSNorm     y = gain x / s,                     s = sqrt(mean(x^2) + eps) of this pass

The terms add up to the model's logits. They do not say what would happen without a part, as s would then be another
value and later parts would read another stream. Elhage et al. 2021 describe the sum; nostalgebraist 2020 the reading of
the stream through the head.

Legend: N = parts, C = n_embd, V = vocab_size, H = heads, D = head_dim.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpt2lab.config import UserError
from gpt2lab.explain.trace import Trace
from gpt2lab.model import GPT


@dataclass(frozen=True)
class Part:
    """A term of the sum."""

    kind: str
    """token embedding | position embedding | head | attention bias | MLP | MLP bias | final norm bias"""
    block: int | None = None
    """from 0; None: no part of a block"""
    head: int | None = None
    """from 0; None: no head"""

    def __str__(self) -> str:
        """Name for readers, who count from 1."""
        if self.block is None:
            return self.kind
        number = "" if self.head is None else f" {self.head + 1}"
        return f"block {self.block + 1}, {self.kind}{number}"


@dataclass(frozen=True)
class Contributions:
    """The logits of one position as a sum over parts."""

    parts: Sequence[Part]
    logits_NV: Tensor
    """float64; its sum over parts is the model's logits"""

    @property
    def centered_NV(self) -> Tensor:
        """Each part's logits minus their mean over the vocabulary, which the softmax ignores."""
        return self.logits_NV - self.logits_NV.mean(dim=1, keepdim=True)


@torch.no_grad()
def contributions(model: GPT, trace: Trace, position: int = -1) -> Contributions:
    """Split the logits after one position.

    Args:
        model: the model of the trace.
        trace: from ``trace(model, ids)``.
        position: index into the tokens; the last one by default.

    Raises:
        UserError: the final norm is a user's own, without a method ``linearized``.
    """
    parts: list[Part] = [Part("token embedding"), Part("position embedding")]
    vectors: list[Tensor] = [trace.token_TC[position], trace.position_TC[position]]
    for i, recorded in enumerate(trace.blocks):
        projections = [model.get_submodule(f"blocks.{i}.{name}.c_proj") for name in ("attn", "mlp")]
        heads_HD = recorded.heads_HTD[:, position].double()
        weight_CHD = _double(projections[0].weight).unflatten(1, heads_HD.shape)
        parts += [Part("head", i, head) for head in range(len(heads_HD))]
        vectors += list(torch.einsum("hd,chd->hc", heads_HD, weight_CHD))
        attention_bias_C, mlp_bias_C = (_bias(projection, model.config.n_embd) for projection in projections)
        parts += [Part("attention bias", i), Part("MLP", i), Part("MLP bias", i)]
        vectors += [attention_bias_C, recorded.mlp_TC[position].double() - mlp_bias_C, mlp_bias_C]
    vectors_NC = torch.stack([vector.double() for vector in vectors])
    norm = copy.deepcopy(model.norm_f).cpu().double()
    residual_C = trace.blocks[-1].output_TC[position].double()
    normed_NC = _linearized(norm, model.config.norm.name)(vectors_NC, residual_C)
    normed_NC *= _double(norm_gain(norm, model.config.n_embd))
    normed_NC = torch.cat([normed_NC, _bias(norm, model.config.n_embd)[None]])
    head_VC = _double(model.head_PC[: model.config.vocab_size])
    return Contributions([*parts, Part("final norm bias")], normed_NC @ head_VC.T)


def norm_gain(norm: nn.Module, width: int) -> Tensor:
    """Its weight, or ones where it has none."""
    weight = getattr(norm, "weight", None)
    return torch.ones(width) if weight is None else weight


def _linearized(norm: nn.Module, name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The norm with the statistics of a given vector, without gain and bias.

    Raises:
        UserError: its class does not say what that is.
    """
    linearized = getattr(norm, "linearized", None)
    if linearized is None:
        raise UserError(
            f"model.norm.name={name}: it has no method linearized(x, reference), by which the logits are split into "
            "parts; expected a norm that has; see docs/add_a_variant.md"
        )
    found: Callable[[Tensor, Tensor], Tensor] = linearized
    return found


def _bias(module: nn.Module, width: int) -> Tensor:
    """Its bias, or zeros where it has none."""
    bias = getattr(module, "bias", None)
    return torch.zeros(width, dtype=torch.float64) if bias is None else _double(bias)


def _double(x: Tensor | nn.Module) -> Tensor:
    assert isinstance(x, Tensor)
    return x.detach().cpu().double()
