"""The batches that the model scores, and the forward loop over texts.

    tokens, windows -> batches -> hidden states of the scored tokens

Legend: B = texts of a batch, T = tokens of a text, N = scored targets of a batch, C = n_embd, n = tokens of a text.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from gpt2lab.config import UserError
from gpt2lab.evaluation.windows import Window
from gpt2lab.model import GPT, Layout, evaluation_mode
from gpt2lab.model.layout import contiguous
from gpt2lab.runtime import Runtime

Ids = NDArray[np.int64]


class ScoringBatch(NamedTuple):
    """A batch of texts, and which of their tokens are scored."""

    inputs_BT: Ids
    """padded on the right, where padding reaches no scored token"""
    layout: Layout | None
    """None: each row is one text"""
    rows_N: Ids
    columns_N: Ids
    """the input after which each target comes"""
    targets_N: Ids
    where_N: Ids
    """index of each target in the result"""


class Scored(NamedTuple):
    """The hidden states that predict the scored tokens of a batch, on the device."""

    where_N: Ids
    hidden_NC: Tensor
    targets_N: Tensor


def window_batches(
    tokens: NDArray[np.integer], windows: Sequence[Window], batch_size: int, first_position: int = 0
) -> Iterator[ScoringBatch]:
    """Windows of a text, those of similar length in one batch, the longest first.

    Args:
        tokens: ids of the text, [n].
        windows: parts of it that are read at once; no two may score the same token.
        batch_size: windows per batch.
        first_position: position of the first token of each window.
    """
    minus_length_W = np.fromiter((window.begin - window.end for window in windows), np.int32, len(windows))
    order_W = np.argsort(minus_length_W, kind="stable")
    for first in progress(range(0, len(windows), batch_size)):
        batch = [windows[index] for index in order_W[first : first + batch_size].tolist()]
        inputs_BT = np.zeros((len(batch), max(window.end - 1 - window.begin for window in batch)), np.int64)
        for row, window in enumerate(batch):
            inputs_BT[row, : window.end - 1 - window.begin] = tokens[window.begin : window.end - 1]
        where_N = np.concatenate([np.arange(window.first_scored, window.end) for window in batch])
        scored = [window.end - window.first_scored for window in batch]
        columns_N = where_N - 1 - np.repeat([window.begin for window in batch], scored)
        layout = contiguous(first_position, inputs_BT.shape[1], torch.device("cpu")) if first_position else None
        rows_N = np.repeat(np.arange(len(batch)), scored)
        yield ScoringBatch(inputs_BT, layout, rows_N, columns_N, tokens[where_N].astype(np.int64), where_N)


def last_token_batches(texts: Sequence[Sequence[int]], batch_size: int) -> Iterator[ScoringBatch]:
    """Texts of which only the hidden state at the last token is wanted; no target is scored."""
    for first in range(0, len(texts), batch_size):
        batch = texts[first : first + batch_size]
        inputs_BT = np.zeros((len(batch), max(map(len, batch))), np.int64)
        for row, text in enumerate(batch):
            inputs_BT[row, : len(text)] = text
        rows_B = np.arange(len(batch))
        last_B = np.array([len(text) - 1 for text in batch])
        yield ScoringBatch(inputs_BT, None, rows_B, last_B, np.zeros(len(batch), np.int64), first + rows_B)


@torch.inference_mode()
def hidden_states(model: GPT, batches: Iterable[ScoringBatch], runtime: Runtime) -> Iterator[Scored]:
    """Read each batch, without dropout. Context and padding never reach the output head.

    Raises:
        UserError: ids that are not in the model's vocabulary.
    """
    with evaluation_mode(model):
        for batch in batches:
            _check_ids(max(int(batch.inputs_BT.max()), int(batch.targets_N.max())), model)
            inputs_BT, rows_N, columns_N, targets_N = (
                torch.from_numpy(ids).to(runtime.device)
                for ids in (batch.inputs_BT, batch.rows_N, batch.columns_N, batch.targets_N)
            )
            layout = batch.layout.to(runtime.device) if batch.layout is not None else None
            with runtime.autocast():
                hidden_NC = model.hidden(inputs_BT, layout=layout)[rows_N, columns_N]
            yield Scored(batch.where_N, hidden_NC, targets_N)


def progress(batches: range) -> "tqdm[int]":
    """Show on a terminal how many batches are left; one process shows it for all."""
    hidden = None if os.environ.get("RANK", "0") == "0" else True  # None: shown on a terminal only
    return tqdm(batches, "scoring", unit="batch", leave=False, disable=hidden)


def _check_ids(largest: int, model: GPT) -> None:
    if largest >= model.config.vocab_size:
        raise UserError(
            f"the text has token id {largest}, the model ids below {model.config.vocab_size}: it was made with another "
            "tokenizer; encode it with the model's own"
        )
