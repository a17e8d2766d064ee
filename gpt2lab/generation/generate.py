"""The decoding loop.

    prompt -> model fills the cache -> probabilities -> a token a row -> model reads it -> ... -> end-of-text or limit

Each new token sees the last ``block_size`` tokens. Until the context is full they come from the cache; past it every
token is a fresh reading of the window, because the window has slid and with it the position of everything in it.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from gpt2lab.config import SamplingConfig, UserError
from gpt2lab.generation.cache import KVCache
from gpt2lab.generation.filters import sampling_probs
from gpt2lab.model import GPT, evaluation_mode
from gpt2lab.runtime import Runtime, stream_seed


@torch.inference_mode()
def generate(
    model: GPT, prompts: Sequence[Sequence[int]], sampling: SamplingConfig, *, eot_id: int, runtime: Runtime
) -> list[list[int]]:
    """Continue each prompt; return the new ids alone, without the end-of-text that ended them.

    Row i draws from its own stream, seeded by (sampling.seed, i), so it does not depend on the other rows.

    Args:
        model: scored without dropout, on ``runtime.device``.
        prompts: token ids, at least one each; only the last ``block_size`` of a longer one are read.
        sampling: temperature, filters, length, seed (``num_samples`` is the caller's, who repeats the prompt).
        eot_id: ends a row.
        runtime: device and precision.

    Raises:
        UserError: an empty prompt, or logits that are not numbers.
    """
    if not all(prompts):
        raise UserError("an empty prompt has no token to start from: start with end-of-text")
    by_length: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(row)
    outputs: list[list[int]] = [[] for _ in prompts]
    with evaluation_mode(model):
        for rows in by_length.values():
            tokens_BT = torch.tensor([list(prompts[row]) for row in rows], device=runtime.device)
            generators = [Generator().manual_seed(stream_seed("sample", sampling.seed, row)) for row in rows]
            for row, new in zip(rows, _continue(model, tokens_BT, generators, sampling, eot_id, runtime), strict=True):
                outputs[row] = new
    return outputs


def _continue(
    model: GPT, tokens_BT: Tensor, generators: list[Generator], sampling: SamplingConfig, eot_id: int, runtime: Runtime
) -> list[list[int]]:
    """``generate`` for prompts of one length, [B, T]."""
    block_size, n_prompt = model.config.block_size, tokens_BT.shape[1]
    ended_B = torch.zeros(len(tokens_BT), dtype=torch.bool, device=runtime.device)
    cache: KVCache | None = None
    for _ in range(sampling.max_new_tokens):
        if cache is None or cache.length == block_size:
            cache, unread_BT = _new_cache(model, len(tokens_BT), runtime), tokens_BT[:, -block_size:]
        else:
            unread_BT = tokens_BT[:, -1:]
        with runtime.autocast():
            logits_BV = model.next_logits(unread_BT, cache)
        # on the CPU, so that every device draws alike and float64 is at hand
        next_B = draw(sampling_probs(logits_BV.cpu(), sampling), generators).to(runtime.device)
        tokens_BT = torch.cat([tokens_BT, next_B[:, None]], dim=1)
        ended_B |= next_B == eot_id
        if ended_B.all():
            break
    rows: list[list[int]] = tokens_BT[:, n_prompt:].tolist()
    return [row[: row.index(eot_id)] if eot_id in row else row for row in rows]


def draw(probs_BV: Tensor, generators: list[Generator]) -> Tensor:
    """One id a row, int64 [B]: the first whose cumulative probability exceeds a uniform number of the row's stream."""
    cumulative_BV = probs_BV.double().cumsum(dim=-1)
    uniform_B = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
    # scaled by the row's sum, which rounding may leave off 1, so that the end of the row is never overshot
    threshold_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, threshold_B1, right=True)[:, 0]


def _new_cache(model: GPT, batch_size: int, runtime: Runtime) -> KVCache:
    dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    return KVCache(model.config, batch_size, runtime.device, dtype)
