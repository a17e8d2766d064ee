"""The decoding loop.

1. Prompts wait in a queue, the shortest first; each of ``batch_size`` slots takes one.
2. The model reads the new prompts together, then one token per slot and step, with a cache of keys and values.
3. From the logits and a random number of the row's own stream follows the next token.
4. A row ends at end-of-text, at the limit or when the caller says so, and its slot takes the next prompt.

Each new token sees the last ``block_size`` tokens of its row. A row that has outgrown the context is read anew for
every token: a sliding window moves each token to another position, so what learned and sinusoidal positions have put
into the cache is wrong from then on. With rope, alibi or no positions, the cached values of a deep layer still hold
what they read from tokens that have left the window. Reading anew makes a token a function of the last ``block_size``
tokens, as in training and evaluation.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from gpt2lab.config import SamplingConfig, UserError
from gpt2lab.generation.decoder import Decoder
from gpt2lab.generation.filters import NOT_FINITE, NOT_FINITE_ERROR, next_tokens
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime, stream_seed

BLOCK = 1024
"""random numbers that are drawn at once: a row may be allowed far more tokens than it gets"""


def generate(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingConfig,
    *,
    eot_id: int,
    runtime: Runtime,
    first_row: int = 0,
    on_token: Callable[[], object] = lambda: None,
) -> list[list[int]]:
    """Continue each prompt; return the new ids only, without the end-of-text that ended them.

    A row that ended at end-of-text is shorter than ``sampling.max_new_tokens``. ``on_token`` is called after each
    token. The other arguments and errors are those of ``generate_stream``.
    """
    outputs: list[list[int]] = [[] for _ in prompts]
    drawn = generate_stream(model, prompts, sampling, eot_id=eot_id, runtime=runtime, first_row=first_row)
    for row, token in drawn:
        outputs[row].append(token)
        on_token()
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
    ended: Container[int] = (),
) -> Iterator[tuple[int, int]]:
    """Yield (row, new id) as they are drawn, one token of each row in the batch at a time.

    Row i draws from its own stream, seeded by (sampling.seed, first_row + i). Its tokens depend neither on the other
    rows nor on how they are batched, up to the rounding of sums in batches of another shape.

    Args:
        model: used without dropout, on ``runtime.device``.
        prompts: token ids, at least one each; only the last ``block_size`` of a longer prompt are read.
        sampling: temperature, filters, length, seed and batch size. ``num_samples`` is ignored: repeat the prompt.
        eot_id: ends a row, and is not yielded.
        runtime: device and precision.
        first_row: number of the first prompt, for callers that draw some of the rows.
        ended: rows that need no more tokens; the caller may add to it while it iterates.

    Raises:
        UserError: an empty prompt, or logits that are NaN or infinite.
    """
    if not all(prompts):
        raise UserError("an empty prompt has no token to start from: start with end-of-text")
    if not prompts:
        return
    block_size = model.config.block_size
    waiting = [
        _Row(number, list(prompts[number][-block_size:]), _uniform_numbers(sampling, first_row + number))
        for number in sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    ]  # the next one is the last
    slots = min(len(prompts), sampling.batch_size)
    capacity = min(block_size, max(map(len, prompts)) + sampling.max_new_tokens)
    decoder = Decoder(model, runtime, slots, capacity, 1 if sampling.temperature == 0 else sampling.top_k)
    rows: dict[int, _Row] = {}  # by slot
    while waiting or rows:
        free = [slot for slot in range(slots) if slot not in rows]
        starting = {slot: waiting.pop() for slot in free[: len(waiting)]}
        rows = dict(sorted({**rows, **starting}.items()))
        logits_RV = _next_logits(decoder, rows, starting, block_size)
        for slot, token in zip(list(rows), _choose(logits_RV, rows.values(), sampling), strict=True):
            row = rows[slot]
            row.tokens.append(token)
            row.n_new += 1
            if token != eot_id:
                yield row.number, token
            if token == eot_id or row.n_new == sampling.max_new_tokens or row.number in ended:
                del rows[slot]


@dataclass
class _Row:
    number: int
    tokens: list[int]
    """the end of the prompt, then the tokens drawn"""
    uniform_numbers: Iterator[float]
    """the next one is of the next token"""
    n_new: int = 0


def _uniform_numbers(sampling: SamplingConfig, row: int) -> Iterator[float]:
    """The random numbers of a row, drawn in blocks: ``torch.rand(n)`` equals n times ``torch.rand(1)``."""
    generator = Generator().manual_seed(stream_seed("sample", sampling.seed, row))
    while True:
        yield from torch.rand(BLOCK, generator=generator, dtype=torch.float64).tolist()


def _next_logits(decoder: Decoder, rows: dict[int, _Row], starting: dict[int, _Row], block_size: int) -> Tensor:
    """Logits after each row, [R, V], in the order of ``rows``: from its prompt, its cached tokens, or a window."""
    outgrown = {slot: row for slot, row in rows.items() if len(row.tokens) > block_size}
    continuing = {slot: row for slot, row in rows.items() if slot not in starting and slot not in outgrown}
    parts: dict[int, Tensor] = {}
    if continuing:  # before new prompts are read: a step also writes to the slots of other rows
        longest = max(len(row.tokens) for row in continuing.values())
        tokens, positions = [0] * decoder.slots, [longest - 1] * decoder.slots
        for slot, row in continuing.items():
            tokens[slot], positions[slot] = row.tokens[-1], len(row.tokens) - 1
        logits_BV = decoder.step(tokens, positions)
        if len(continuing) == decoder.slots:
            return logits_BV
        parts |= {slot: logits_BV[slot] for slot in continuing}
    if starting:
        logits_RV = decoder.read_prompts(list(starting), [row.tokens for row in starting.values()])
        parts |= dict(zip(starting, logits_RV, strict=True))
    if outgrown:
        logits_RV = decoder.read_windows([row.tokens[-block_size:] for row in outgrown.values()])
        parts |= dict(zip(outgrown, logits_RV, strict=True))
    return torch.stack([parts[slot] for slot in rows])


def _choose(logits_RV: Tensor, rows: Iterable[_Row], sampling: SamplingConfig) -> list[int]:
    """The next token of each row."""
    if logits_RV.device.type == "mps":  # has no float64
        logits_RV = logits_RV.cpu()
    numbers = [next(row.uniform_numbers) for row in rows]
    uniform_R = torch.tensor(numbers, dtype=torch.float64, device=logits_RV.device)
    ids: list[int] = next_tokens(logits_RV, sampling, uniform_R).tolist()
    if NOT_FINITE in ids:
        raise UserError(NOT_FINITE_ERROR)
    return ids
