"""Perplexity: every token scored exactly once, all figures from one sum.

    tokens -> windows -> model -> nll a token -> sum over scored targets -> token, word, byte perplexity, bits per byte

Legend: B = windows of a batch, T = tokens of a window.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2lab.config import UserError
from gpt2lab.data import Batch
from gpt2lab.evaluation.feed import as_tensors
from gpt2lab.model import GPT, IGNORE_INDEX, evaluation_mode
from gpt2lab.runtime import Runtime

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
        """Nats a token."""
        return self.nll / self.tokens

    @property
    def token_perplexity(self) -> float:
        """exp(nll / tokens)."""
        return _exp(self.nll / self.tokens)

    @property
    def word_perplexity(self) -> float | None:
        """exp(nll / words); None where words were not counted."""
        return _exp(self.nll / self.words) if self.words else None

    @property
    def byte_perplexity(self) -> float:
        """exp(nll / bytes)."""
        return _exp(self.nll / self.bytes) if self.bytes else math.inf

    @property
    def bits_per_byte(self) -> float:
        """nll / bytes, in bits: comparable between tokenizers."""
        return self.nll / self.bytes / math.log(2) if self.bytes else math.inf

    def figures(self) -> dict[str, float | int | None]:
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


class Window(NamedTuple):
    """A stretch of the text that goes through the model at once."""

    begin: int
    """first input token"""
    end: int
    """one past the last target"""
    first_scored: int
    """first target that this window scores; the earlier ones are context"""


def sliding_windows(n_tokens: int, block_size: int, stride: int) -> Iterator[Window]:
    """Windows that score the tokens 1 ... n_tokens - 1 once each, as ``stride`` new targets a window.

    The inputs of a window are tokens [begin, end - 1), at most ``block_size`` of them; each window after the first
    reaches back for as much context as fits.
    """
    scored_to = 1
    while scored_to < n_tokens:
        end = min(scored_to + (block_size if scored_to == 1 else stride), n_tokens)
        yield Window(max(0, end - 1 - block_size), end, scored_to)
        scored_to = end


@torch.inference_mode()
def perplexity(
    model: GPT,
    tokens: NDArray[np.integer],
    *,
    token_lengths: NDArray[np.int64],
    runtime: Runtime,
    context: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    words: int | None = None,
) -> Perplexity:
    """Score a text: tokens [n]; the first one is context only, all others are scored once.

    Args:
        model: in evaluation mode or not, it is scored without dropout.
        tokens: token ids.
        token_lengths: bytes of text each id stands for, [vocab_size].
        runtime: device and precision.
        context: longest window; None: ``block_size``.
        stride: targets a window, at most ``context``; None: ``context``.
        batch_size: windows a forward pass.
        words: words of the text, for the word perplexity.

    Raises:
        UserError: fewer than two tokens, or a stride that would leave tokens unscored.
    """
    context = context or model.config.block_size
    stride = context if stride is None else stride
    if len(tokens) < 2:
        raise UserError(f"a text of {len(tokens)} token(s): at least 1 token after the first is needed to score")
    if not 1 <= stride <= context:
        raise UserError(f"eval.stride={stride}: expected 1 to {context} tokens, the model's context")
    windows = list(sliding_windows(len(tokens), context, stride))
    batches = (_pad_windows(tokens, windows[i : i + batch_size]) for i in range(0, len(windows), batch_size))
    return score_batches(model, batches, token_lengths, runtime, words)


@torch.inference_mode()
def score_batches(
    model: GPT,
    batches: Iterable[Batch],
    token_lengths: NDArray[np.int64],
    runtime: Runtime,
    words: int | None = None,
) -> Perplexity:
    """Score batches; targets that are IGNORE_INDEX are left out. Sums are float64."""
    nll, n_tokens, n_bytes = 0.0, 0, 0
    with evaluation_mode(model), runtime.autocast():
        for batch in batches:
            inputs_BT, targets_BT, layout, _ = as_tensors(batch, runtime).to(runtime.device)
            nll_BT = model.token_nll(inputs_BT, targets_BT, layout=layout)
            nll += nll_BT.cpu().double().sum().item()  # not every device has float64
            scored = batch.targets_BT[batch.targets_BT != IGNORE_INDEX]
            n_tokens += scored.size
            n_bytes += int(token_lengths[scored].sum())
    return Perplexity(nll, n_tokens, n_bytes, words)


def _pad_windows(tokens: NDArray[np.integer], windows: list[Window]) -> Batch:
    """Inputs and targets of some windows, [B, T] each, padded on the right, where padding reaches no scored token."""
    shape = (len(windows), max(w.end - 1 - w.begin for w in windows))
    inputs_BT, targets_BT = np.zeros(shape, np.int64), np.full(shape, IGNORE_INDEX, np.int64)
    for row, window in enumerate(windows):
        inputs_BT[row, : window.end - 1 - window.begin] = tokens[window.begin : window.end - 1]
        first = window.first_scored - 1 - window.begin
        targets_BT[row, first : window.end - 1 - window.begin] = tokens[window.first_scored : window.end]
    return Batch(inputs_BT, targets_BT)


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < LARGEST_EXPONENT else math.inf
