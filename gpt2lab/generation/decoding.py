"""The decoding loop.

    prompts -> batches of similar length, padded on the left -> model fills the cache -> probabilities -> a token a row
    -> model reads it -> ... -> end-of-text or limit

Each new token sees the last ``block_size`` tokens of its row. As long as the longest row of the batch is within that
context, earlier tokens come from the cache; past it every token is a fresh reading of each row's window, under every
position scheme. A window that slides moves each token to another position, so what learned and sinusoidal positions
have put into the cache is wrong from then on; and with rope, alibi or no positions the cached values of a deep layer
still hold what they read from tokens that have left the window. Only reading anew makes the k-th token a function of
its last ``block_size`` tokens, which is also what training and evaluation see.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from gpt2lab.config import SamplingConfig, UserError
from gpt2lab.generation.cache import KVCache
from gpt2lab.generation.filters import sampling_probs
from gpt2lab.model import GPT, evaluation_mode
from gpt2lab.model.layout import left_padded
from gpt2lab.runtime import Runtime, stream_seed


def generate(
    model: GPT, prompts: Sequence[Sequence[int]], sampling: SamplingConfig, *, eot_id: int, runtime: Runtime
) -> list[list[int]]:
    """Continue each prompt; return the new ids alone, without the end-of-text that ended them.

    A row that ended by itself is shorter than ``sampling.max_new_tokens``. Arguments and errors are those of
    ``generate_stream``.
    """
    outputs: list[list[int]] = [[] for _ in prompts]
    for row, token in generate_stream(model, prompts, sampling, eot_id=eot_id, runtime=runtime):
        outputs[row].append(token)
    return outputs


@torch.inference_mode()
def generate_stream(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingConfig,
    *,
    eot_id: int,
    runtime: Runtime,
    first_row: int = 0,
) -> Iterator[tuple[int, int]]:
    """Yield (row, new id) as they are drawn, those of a batch of rows in turn.

    Row i draws from its own stream, seeded by (sampling.seed, first_row + i), so what it gets depends neither on the
    other rows nor on how they are batched, up to the rounding of sums in batches of another shape.

    Args:
        model: scored without dropout, on ``runtime.device``.
        prompts: token ids, at least one each; only the last ``block_size`` of a longer one are read.
        sampling: temperature, filters, length, seed, batch (``num_samples`` is the caller's, who repeats the prompt).
        eot_id: ends a row, and is not yielded.
        runtime: device and precision.
        first_row: number of the first prompt, for a caller who draws one row at a time.

    Raises:
        UserError: an empty prompt, or logits that are not numbers.
    """
    if not all(prompts):
        raise UserError("an empty prompt has no token to start from: start with end-of-text")
    by_length = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # so that a batch has little padding
    with evaluation_mode(model):
        for start in range(0, len(by_length), sampling.batch_size):
            rows = by_length[start : start + sampling.batch_size]
            generators = [
                Generator().manual_seed(stream_seed("sample", sampling.seed, first_row + row)) for row in rows
            ]
            ended = [False] * len(rows)
            for next_ids in _decode(model, [prompts[row] for row in rows], generators, sampling, runtime):
                ended = [was or token == eot_id for was, token in zip(ended, next_ids, strict=True)]
                yield from ((rows[i], token) for i, token in enumerate(next_ids) if not ended[i])
                if all(ended):
                    break


def _decode(
    model: GPT, prompts: list[Sequence[int]], generators: list[Generator], sampling: SamplingConfig, runtime: Runtime
) -> Iterator[list[int]]:
    """Yield the next id of every row, ``sampling.max_new_tokens`` times."""
    block_size, longest = model.config.block_size, max(map(len, prompts))
    n_padding = [longest - len(prompt) for prompt in prompts]
    tokens_BT = torch.tensor([[0] * n + list(prompt) for n, prompt in zip(n_padding, prompts, strict=True)])
    tokens_BT, n_padding_B = tokens_BT.to(runtime.device), torch.tensor(n_padding, device=runtime.device)
    capacity = min(block_size, longest + sampling.max_new_tokens)
    cache = KVCache(model.config, len(prompts), capacity, runtime.device, runtime.dtype)
    for _ in range(sampling.max_new_tokens):
        n_tokens = tokens_BT.shape[1]
        slid = max(0, n_tokens - block_size)
        first = slid or cache.length
        layout = left_padded(n_padding_B.clamp(min=slid), first, n_tokens) if max(n_padding) > slid else None
        with runtime.autocast():
            hidden_BTC = model.hidden(tokens_BT[:, first:], layout=layout, cache=None if slid else cache)
            logits_BV = model.logits(hidden_BTC[:, -1])
        # on the CPU, so that every device draws alike and float64 is at hand
        next_B = draw(sampling_probs(logits_BV.cpu(), sampling), generators)
        tokens_BT = torch.cat([tokens_BT, next_B.to(runtime.device)[:, None]], dim=1)
        yield next_B.tolist()


def draw(probs_BV: Tensor, generators: list[Generator]) -> Tensor:
    """One id a row, int64 [B]: the first whose cumulative probability exceeds a uniform number of the row's stream."""
    cumulative_BV = probs_BV.double().cumsum(dim=-1)
    uniform_B = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
    # scaled by the row's sum, which rounding may leave off 1, so that the end of the row is never overshot
    threshold_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, threshold_B1, right=True)[:, 0]
