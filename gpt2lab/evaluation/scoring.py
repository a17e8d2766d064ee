"""The forward-and-score loop: negative log-likelihood of each token of a text, and the perplexities of its sum.

    tokens, windows -> batches of similar length -> hidden states -> float32 logits -> nll of each token -> sum

Every token is scored exactly once, and all perplexities are one sum over different units.

Legend: B = windows of a batch, T = tokens of a window, N = scored targets of a batch, C = n_embd, n = tokens of a text.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gpt2lab.config import UserError
from gpt2lab.data import Batch
from gpt2lab.distributed import ALONE, World
from gpt2lab.evaluation.device_batches import as_tensors
from gpt2lab.evaluation.scoring_batches import ScoringBatch, hidden_states, window_batches
from gpt2lab.evaluation.windows import Window
from gpt2lab.generation.filters import NOT_FINITE_ERROR
from gpt2lab.model import GPT, IGNORE_INDEX, evaluation_mode
from gpt2lab.runtime import Runtime

GREEDY_LOGITS = 2**24
"""logits that are in memory at once where the most likely token is asked for: 64 MiB"""
LARGEST_EXPONENT = math.log(torch.finfo(torch.float64).max)


@dataclass(frozen=True)
class Perplexity:
    """A summed negative log-likelihood and the units it is spread over."""

    nll: float
    """nats, summed over the scored tokens"""
    tokens: int
    """scored tokens"""
    bytes: int
    """UTF-8 bytes of text those tokens stand for; end-of-text stands for none"""
    words: int | None = None
    """white-space separated words of that text, where it was counted"""

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nll / self.tokens

    @property
    def token_perplexity(self) -> float:
        """exp(nll / tokens)."""
        return bounded_exp(self.nll / self.tokens)

    @property
    def word_perplexity(self) -> float | None:
        """exp(nll / words); None where words were not counted."""
        return bounded_exp(self.nll / self.words) if self.words else None

    @property
    def byte_perplexity(self) -> float:
        """exp(nll / bytes)."""
        return bounded_exp(self.nll / self.bytes) if self.bytes else math.inf

    @property
    def bits_per_byte(self) -> float:
        """nll / bytes, in bits: comparable between tokenizers."""
        return self.nll / self.bytes / math.log(2) if self.bytes else math.inf

    def to_dict(self) -> dict[str, float | int | None]:
        """All of it, by the names used in ``eval.json``."""
        names = (
            "nll",
            "tokens",
            "words",
            "bytes",
            "token_perplexity",
            "word_perplexity",
            "byte_perplexity",
            "bits_per_byte",
        )
        return {name: getattr(self, name) for name in names}


@torch.inference_mode()
def score_tokens(
    model: GPT,
    tokens: NDArray[np.integer],
    windows: Sequence[Window],
    runtime: Runtime,
    batch_size: int,
    *,
    first_position: int = 0,
    world: World = ALONE,
) -> NDArray[np.float32]:
    """Nats of each token of a text, float32 [n]; 0 where no window scores it. Arguments as in ``window_batches``.

    The processes of ``world`` share the batches. A batch is the same whatever their number, so each score is, too.

    Raises:
        UserError: a score is NaN or infinite.
    """
    nll_n = np.zeros(len(tokens), np.float32)
    batches = own_share(window_batches(tokens, windows, batch_size, first_position), world)
    for where_N, hidden_NC, targets_N in hidden_states(model, batches, runtime):
        with full_precision(hidden_NC):
            nll_n[where_N] = model.nll(hidden_NC.float(), targets_N).cpu().numpy()
    world.sum(torch.from_numpy(nll_n))  # in place; a score is 0 in all processes but one
    _require_finite(nll_n)
    return nll_n


@torch.inference_mode()
def score_documents(
    model: GPT,
    tokens: NDArray[np.integer],
    windows: Sequence[Window],
    starts_D: NDArray[np.int64],
    runtime: Runtime,
    batch_size: int,
    world: World = ALONE,
) -> NDArray[np.float64]:
    """Nats of each document of a text, float64 [D]: ``score_tokens`` summed without an array of all tokens.

    ``starts_D`` is the first token of each document; the other arguments are those of ``window_batches``. The
    processes of ``world`` share the batches; the sums are in the order of one process, and so equal to the last bit.

    Raises:
        UserError: a score is NaN or infinite.
    """
    nats_D = np.zeros(len(starts_D))
    for where_N, nll_N in _shared_nll(model, window_batches(tokens, windows, batch_size), runtime, world):
        np.add.at(nats_D, np.searchsorted(starts_D, where_N, side="right") - 1, nll_N)
    return nats_D


@torch.inference_mode()
def score_greedy(
    model: GPT, batches: Iterable[ScoringBatch], n_targets: int, runtime: Runtime, world: World = ALONE
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Nats of each target, and whether it is the most likely token at its place, [n_targets] each.

    The processes of ``world`` share the batches.

    Raises:
        UserError: a score is NaN or infinite.
    """
    nll_n, greedy_n = np.zeros(n_targets, np.float32), np.zeros(n_targets, np.bool_)
    rows = max(1, GREEDY_LOGITS // model.config.padded_vocab_size)
    for where_N, hidden_NC, targets_N in hidden_states(model, own_share(batches, world), runtime):
        with full_precision(hidden_NC):
            parts = zip(hidden_NC.float().split(rows), targets_N.split(rows), strict=True)
            scores = [_nll_and_greedy(model.logits(hidden_GC), targets_G) for hidden_GC, targets_G in parts]
        nll_n[where_N] = torch.cat([nll_G for nll_G, _ in scores]).cpu().numpy()
        greedy_n[where_N] = torch.cat([greedy_G for _, greedy_G in scores]).cpu().numpy()
    for scores_n in (nll_n, greedy_n.view(np.uint8)):
        world.sum(torch.from_numpy(scores_n))
    _require_finite(nll_n)
    return nll_n, greedy_n


def _shared_nll(
    model: GPT, batches: Iterable[ScoringBatch], runtime: Runtime, world: World
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """``where_N`` and the nats of each batch, in order and in every process, which computes one of ``world.size``."""
    rest = iter(batches)
    while together := list(islice(rest, world.size)):
        parts = [np.zeros(len(batch.targets_N), np.float32) for batch in together]
        for _, hidden_NC, targets_N in hidden_states(model, together[world.rank : world.rank + 1], runtime):
            with full_precision(hidden_NC):
                parts[world.rank][:] = model.nll(hidden_NC.float(), targets_N).cpu().numpy()
        joined = np.concatenate(parts)
        world.sum(torch.from_numpy(joined))  # in place; a score is 0 in all processes but one
        _require_finite(joined)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        yield from zip((batch.where_N for batch in together), np.split(joined, ends), strict=True)


def _require_finite(nll_n: NDArray[np.float32]) -> None:
    """Raise ``UserError`` for scores that are no numbers: the likeliest of them would be the first."""
    if not np.isfinite(nll_n).all():
        raise UserError(NOT_FINITE_ERROR)


def own_share(batches: Iterable[ScoringBatch], world: World) -> Iterator[ScoringBatch]:
    """The batches of this process: every ``world.size``-th."""
    return islice(batches, world.rank, None, world.size)


@contextmanager
def full_precision(hidden: Tensor) -> Iterator[None]:
    """Computes logits and log-softmax in float32, whatever the precision of the forward pass.

    GPT-2's logits reach about -100, where neighboring bfloat16 numbers are 0.5 apart and TF32 is off by up to 0.08.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(hidden.device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def describe_precision(runtime: Runtime) -> str:
    """For tables and records: precision of the forward pass and of the scores."""
    forward = "tf32" if runtime.tf32 and runtime.precision == "fp32" else runtime.precision
    return f"{forward}, logits and sums fp32" if forward != "fp32" else "fp32"


def _nll_and_greedy(logits_GV: Tensor, targets_G: Tensor) -> tuple[Tensor, Tensor]:
    return F.cross_entropy(logits_GV, targets_G, reduction="none"), logits_GV.argmax(1) == targets_G


@torch.inference_mode()
def score_batches(
    model: GPT,
    batches: Iterable[Batch],
    token_lengths: NDArray[np.int64],
    runtime: Runtime,
) -> Perplexity:
    """Score batches; targets that are IGNORE_INDEX are left out. Sums are float64."""
    nll, n_tokens, n_bytes = 0.0, 0, 0
    with evaluation_mode(model), runtime.autocast():
        for batch in batches:
            inputs_BT, targets_BT, layout, _ = as_tensors(batch, runtime).to(runtime.device)
            hidden_BTC = model.hidden(inputs_BT, layout=layout)
            with full_precision(hidden_BTC):
                nll_BT = model.nll(hidden_BTC.float(), targets_BT)
            nll += nll_BT.cpu().double().sum().item()  # not every device has float64
            scored = batch.targets_BT[batch.targets_BT != IGNORE_INDEX]
            n_tokens += scored.size
            n_bytes += int(token_lengths[scored].sum())
    return Perplexity(nll, n_tokens, n_bytes)


def check_stride(stride: int, context: int) -> None:
    """Raise ``UserError`` for a stride that would leave tokens unscored."""
    if not 1 <= stride <= context:
        raise UserError(f"eval.stride={stride}: expected 1 to {context} tokens, the model's context")


def bounded_exp(exponent: float) -> float:
    """exp, and infinity where float64 ends; NaN stays NaN."""
    return math.inf if exponent >= LARGEST_EXPONENT else math.exp(exponent)
