"""What a model computes on one text, recorded by forward hooks: the model has no code for it.

    trace(model, ids) -> Trace: embeddings, one BlockTrace per block, logits

All tensors are float32 on the CPU, without a batch dimension.

Legend: T = tokens, C = n_embd, H = query heads, K = key-value heads, D = head_dim, M = width of the MLP,
V = vocab_size.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gpt2lab.config import UserError
from gpt2lab.model import GPT, evaluation_mode
from gpt2lab.model.attention import attention_weights
from gpt2lab.model.layout import causal_mask


@dataclass(frozen=True)
class BlockTrace:
    """One block, in the order in which it computes."""

    input_TC: Tensor
    """residual stream before the block"""
    norm_1_TC: Tensor
    """after the first norm: what attention reads"""
    q_HTD: Tensor
    """queries, as attention sees them: normalized (``qk_norm``) and rotated (rope)"""
    k_KTD: Tensor
    """keys, likewise"""
    v_KTD: Tensor
    """values"""
    scores_HTT: Tensor
    """q k^T / sqrt(D) of each query (rows) with each key, before the mask"""
    mask_HTT: Tensor
    """added to the scores: -inf where the key comes later, ALiBi's bias, else 0; H is 1 where heads share it"""
    weights_HTT: Tensor
    """softmax of scores plus mask; rows sum to 1"""
    heads_HTD: Tensor
    """weighted sums of the values: each head's output"""
    attention_TC: Tensor
    """the heads, projected back to C: what attention adds"""
    middle_TC: Tensor
    """residual stream after attention"""
    norm_2_TC: Tensor
    """after the second norm: what the MLP reads"""
    units_TM: Tensor
    """hidden layer of the MLP after its activation (for swiglu: after the gate)"""
    mlp_TC: Tensor
    """what the MLP adds"""
    output_TC: Tensor
    """residual stream after the block"""


@dataclass(frozen=True)
class Trace:
    """One forward pass."""

    ids_T: Tensor
    """int64"""
    token_TC: Tensor
    """token embeddings"""
    position_TC: Tensor
    """what the position scheme adds to them; zeros for rope, alibi and none"""
    blocks: Sequence[BlockTrace]
    final_TC: Tensor
    """after the last norm"""
    logits_TV: Tensor
    """of the token after each position"""

    @property
    def embedding_TC(self) -> Tensor:
        """Residual stream before the first block."""
        return self.blocks[0].input_TC

    @property
    def residual_LTC(self) -> Tensor:
        """Residual stream before the first block and after each one, [n_layer + 1, T, C]."""
        return torch.stack([self.embedding_TC, *(block.output_TC for block in self.blocks)])


class _Call(NamedTuple):
    """Inputs and output of a module, on the CPU, without the batch dimension."""

    inputs: Sequence[Tensor]
    output: Tensor


BLOCK_MODULES = ("norm_1", "attn.attend", "attn", "norm_2", "mlp.c_proj", "mlp", "")
"""modules of a block that are recorded; the empty name is the block itself"""


@torch.no_grad()
def trace(model: GPT, ids: Sequence[int]) -> Trace:
    """Run the model on one text and record every step, in float32, without dropout.

    Args:
        model: any variant, on any device.
        ids: token ids; at least one, at most as many as the positions reach.

    Raises:
        UserError: no ids, ids outside the vocabulary, more of them than a learned position scheme has positions, or
            a user's own MLP without a last layer ``c_proj``.
    """
    if not len(ids):
        raise UserError("ids=[]: expected at least one token; try the ids of tokenizer.encode_prompt(text)")
    for token in ids:
        if not 0 <= token < model.config.vocab_size:
            raise UserError(f"token id {token}: expected 0 <= id < {model.config.vocab_size}, the model's vocabulary")
    if not hasattr(model.blocks[0].mlp, "c_proj"):
        raise UserError(
            f"model.mlp.name={model.config.mlp.name}: it has no c_proj, whose input is shown; expected an MLP that "
            "ends in a linear layer of that name"
        )
    device = model.wte.weight.device
    names = [
        "wte", "dropout", "norm_f", *(_name(i, part) for i in range(model.config.n_layer) for part in BLOCK_MODULES)
    ]  # fmt: skip
    with evaluation_mode(model), torch.autocast(device.type, enabled=False), _recording(model, names) as calls:
        logits_1TV = model(torch.tensor([list(ids)], device=device))
    token_TC, embedding_TC = calls["wte"].output, calls["dropout"].inputs[0]
    return Trace(
        ids_T=torch.tensor(list(ids)),
        token_TC=token_TC,
        position_TC=embedding_TC - token_TC,
        blocks=[_block_trace(calls, i) for i in range(model.config.n_layer)],
        final_TC=calls["norm_f"].output,
        logits_TV=_plain(logits_1TV),
    )


def _block_trace(calls: dict[str, _Call], i: int) -> BlockTrace:
    norm_1, attend, attention, norm_2, projection, mlp, block = (calls[_name(i, part)] for part in BLOCK_MODULES)
    q_HTD, k_KTD, v_KTD = attend.inputs[:3]
    T, D = q_HTD.shape[-2:]
    mask_HTT = attend.inputs[3] if len(attend.inputs) > 3 else _added_causal_mask(T)
    k_HTD = k_KTD.repeat_interleave(len(q_HTD) // len(k_KTD), dim=0)
    return BlockTrace(
        input_TC=norm_1.inputs[0],
        norm_1_TC=norm_1.output,
        q_HTD=q_HTD,
        k_KTD=k_KTD,
        v_KTD=v_KTD,
        scores_HTT=q_HTD @ k_HTD.transpose(-2, -1) / math.sqrt(D),
        mask_HTT=mask_HTT,
        weights_HTT=attention_weights(q_HTD[None], k_KTD[None], mask_HTT[None])[0],
        heads_HTD=attend.output,
        attention_TC=attention.output,
        middle_TC=norm_2.inputs[0],
        norm_2_TC=norm_2.output,
        units_TM=projection.inputs[0],
        mlp_TC=mlp.output,
        output_TC=block.output,
    )


def _name(i: int, part: str) -> str:
    return f"blocks.{i}.{part}".removesuffix(".")


def _added_causal_mask(T: int) -> Tensor:
    """0 where a token may attend, -inf where it may not, [1, T, T]."""
    allowed_TT = causal_mask(T, 0, torch.device("cpu"))
    return torch.zeros(1, T, T).masked_fill(~allowed_TT, -torch.inf)


@contextmanager
def _recording(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, _Call]]:
    """Record the calls of the named modules within the block."""
    calls: dict[str, _Call] = {}
    with ExitStack() as hooks:
        for name in names:
            hook = model.get_submodule(name).register_forward_hook(partial(_record, calls, name))
            hooks.callback(hook.remove)
        yield calls


def _record(calls: dict[str, _Call], name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors = [_plain(value) for value in inputs if isinstance(value, Tensor)]
    calls[name] = _Call(tensors, _plain(output))


def _plain(x_1: Tensor) -> Tensor:
    """The only row of a batch; float32 on the CPU, and no view of what the model goes on to use."""
    return x_1[0].detach().to("cpu", torch.float32, copy=True)
