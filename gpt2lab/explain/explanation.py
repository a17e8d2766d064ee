"""All that the page shows, computed: text -> tokens -> trace, logit lens, contributions, units, the next tokens.

Legend: T = tokens, V = vocab_size, C = n_embd, M = width of the MLP, U = units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from gpt2lab.config import DecodingConfig, UserError
from gpt2lab.explain.contributions import Contributions, contributions, norm_gain
from gpt2lab.explain.lens import Lens, logit_lens
from gpt2lab.explain.trace import Trace, trace
from gpt2lab.generation.filters import NOT_FINITE, NOT_FINITE_ERROR, next_tokens
from gpt2lab.model import GPT
from gpt2lab.runtime import stream_seed
from gpt2lab.tokenizers import Tokenizer

STRONGEST = 5
"""units of an MLP that are shown"""
PROMOTED = 3
"""tokens that are shown for a unit"""


@dataclass(frozen=True)
class NextToken:
    """One step of generation."""

    logits_V: Tensor
    token: int
    """drawn from them"""


@dataclass(frozen=True)
class Unit:
    """A unit of an MLP at one token."""

    index: int
    value: float
    promoted: Sequence[int]
    """the tokens whose logits its output raises most, through the final norm's gain and the head"""


@dataclass(frozen=True)
class Explanation:
    """One text, read by a model, and the tokens drawn after it."""

    model: GPT
    tokenizer: Tokenizer
    trace: Trace
    lens: Lens
    contributions: Contributions
    """to the logits after the last token"""
    units: Sequence[Sequence[Sequence[Unit]]]
    """by block and token"""
    steps: Sequence[NextToken]
    decoding: DecodingConfig
    n_left_out: int
    """tokens at the beginning of the prompt that are not read"""


def explain_prompt(
    model: GPT, tokenizer: Tokenizer, prompt: str, decoding: DecodingConfig, *, steps: int, max_tokens: int, seed: int
) -> Explanation:
    """Read a prompt and draw ``steps`` tokens after it.

    Args:
        model: any variant.
        tokenizer: the model's.
        prompt: of a longer one, only the last ``max_tokens`` tokens that fit the context are read.
        decoding: how the next tokens are drawn.
        steps: at least 1; end-of-text ends them earlier.
        max_tokens: at least 1.
        seed: of the draw.

    Raises:
        UserError: the model's logits are NaN or infinite.
    """
    ids = tokenizer.encode_prompt(prompt)
    read = ids[-min(max_tokens, model.config.block_size) :]
    recorded = trace(model, read)
    drawn = _draw_tokens(model, read, decoding, steps, seed, tokenizer.eot_id, recorded.logits_TV[-1])
    return Explanation(
        model=model,
        tokenizer=tokenizer,
        trace=recorded,
        lens=logit_lens(model, recorded, [*read[1:], drawn[0].token]),
        contributions=contributions(model, recorded),
        units=[[*_strongest_units(model, i, block.units_TM)] for i, block in enumerate(recorded.blocks)],
        steps=drawn,
        decoding=decoding,
        n_left_out=len(ids) - len(read),
    )


@torch.no_grad()
def _draw_tokens(
    model: GPT, ids: Sequence[int], decoding: DecodingConfig, steps: int, seed: int, eot_id: int, logits_V: Tensor
) -> list[NextToken]:
    """Draw tokens one after another; each pass reads the last ``block_size`` tokens anew."""
    generator = Generator().manual_seed(stream_seed("explain", seed))
    text, drawn = list(ids), list[NextToken]()
    for uniform in torch.rand(steps, generator=generator, dtype=torch.float64):
        if drawn:
            window_BT = torch.tensor([text[-model.config.block_size :]], device=model.wte.weight.device)
            logits_V = model.logits(model.hidden(window_BT)[0, -1]).float().cpu()
        token = int(next_tokens(logits_V[None], decoding, uniform[None])[0])
        if token == NOT_FINITE:
            raise UserError(NOT_FINITE_ERROR)
        drawn.append(NextToken(logits_V, token))
        text.append(token)
        if token == eot_id:
            break
    return drawn


@torch.no_grad()
def _strongest_units(model: GPT, i: int, units_TM: Tensor) -> list[list[Unit]]:
    """The units with the largest magnitude at each token, and what their output points to."""
    indices_TU = units_TM.abs().topk(min(STRONGEST, units_TM.shape[1]), dim=-1).indices
    weight_CM = model.get_submodule(f"blocks.{i}.mlp.c_proj").weight
    assert isinstance(weight_CM, Tensor)
    unique_U = indices_TU.unique()
    direction_UC = weight_CM.T[unique_U.to(weight_CM.device)] * norm_gain(model.norm_f, len(weight_CM)).to(weight_CM)
    logits_UV = model.logits(direction_UC).float().cpu()
    n = min(PROMOTED, logits_UV.shape[1])
    tokens = {
        (int(index), sign): (sign * logits_V).topk(n).indices.tolist()
        for index, logits_V in zip(unique_U, logits_UV, strict=True)
        for sign in (1, -1)
    }
    return [
        [
            Unit(int(m), float(units_M[m]), tokens[int(m), 1 if units_M[m] >= 0 else -1])
            for m in indices_U
        ]
        for units_M, indices_U in zip(units_TM, indices_TU, strict=True)
    ]  # fmt: skip
