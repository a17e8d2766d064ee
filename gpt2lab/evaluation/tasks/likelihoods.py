"""Log-likelihood of a continuation given a context, for the questions of zero-shot tasks.

context, continuation -> ids -> rows by context -> batches of like length -> log-likelihood and greedy match of each
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2lab.config import UserError
from gpt2lab.evaluation.scoring import bounded_exp, score_greedy
from gpt2lab.evaluation.scoring_batches import Ids, ScoringBatch, progress
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.model import Layout
from gpt2lab.model.layout import SHARED
from gpt2lab.statistics.intervals import Interval, mean_interval
from gpt2lab.tokenizers import Tokenizer

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """A text and what may follow it; the space between them belongs to the continuation."""

    context: str
    continuation: str


class EncodedRequest(NamedTuple):
    """The same as ids; at least one of each."""

    context: list[int]
    continuation: list[int]


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of a continuation, and which of its tokens greedy decoding would choose."""

    log_likelihood: float
    """nats, summed over its tokens"""
    greedy: list[bool]
    """of each token: whether it is the likeliest after those before it"""
    is_cut: bool = False
    """whether the model's context had no room for the beginning of what stands before"""

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding would write the whole continuation."""
        return all(self.greedy)

    @property
    def tokens(self) -> int:
        """Tokens of the continuation."""
        return len(self.greedy)


def encode_request(request: Request, tokenizer: Tokenizer) -> EncodedRequest:
    """Ids of both, split where the context's own ids end, as lm-evaluation-harness does (``TemplateLM._encode_pair``).

    White space at the end of the context goes to the continuation. An empty context is an end-of-text, or the
    tokenizer's own beginning, which also goes before other contexts if the tokenizer puts it before each text.
    """
    context = request.context.rstrip()
    continuation = request.context[len(context) :] + request.continuation
    if not request.context:
        return EncodedRequest([tokenizer.bos_id], tokenizer.encode(request.continuation))
    context_ids = tokenizer.encode_with_bos(context)
    whole_ids = tokenizer.encode_with_bos(context + continuation)
    return EncodedRequest(context_ids or [tokenizer.bos_id], whole_ids[len(context_ids) :])


def score_requests(loaded: TextModel, requests: Sequence[Request], batch_size: int) -> list[Likelihood]:
    """The likelihood of each request's continuation, in their order."""
    return score_encoded(loaded, [encode_request(request, loaded.tokenizer) for request in requests], batch_size)


def score_encoded(loaded: TextModel, requests: Sequence[EncodedRequest], batch_size: int) -> list[Likelihood]:
    """``score_requests`` on ids. Contexts that are too long lose their beginning.

    Requests with the same context are one row, in which the context is read once. Rows of similar length share a
    batch, the longest first.

    Raises:
        UserError: a continuation that is empty, or longer than the model's context.
    """
    limit = loaded.source.context
    for request in requests:
        if not 1 <= len(request.continuation) <= limit:
            raise UserError(
                f"a continuation of {len(request.continuation)} tokens: expected 1 to {limit}, the model's context"
            )
    ends = np.cumsum([len(request.continuation) for request in requests]).tolist()
    wholes = [
        _Continuation(np.arange(end - len(request.continuation), end), request.continuation)
        for end, request in zip(ends, requests, strict=True)
    ]
    batches = _batches(_questions(requests, wholes, limit), batch_size)
    nll_n, greedy_n = score_greedy(loaded.model, batches, ends[-1] if ends else 0, loaded.runtime, loaded.world)
    return [
        Likelihood(
            -float(nll_n[whole.where].sum(dtype=np.float64)),
            greedy_n[whole.where].tolist(),
            is_cut=len(request.context) > _room_for_context(whole, limit),
        )
        for request, whole in zip(requests, wholes, strict=True)
    ]


def perplexity_interval(log_likelihoods: NDArray[np.float64]) -> Interval | None:
    """95 % interval of exp(-mean): that of the mean, and so never below 0; None for a single value."""
    interval = mean_interval(log_likelihoods)
    return interval and (bounded_exp(-interval[1]), bounded_exp(-interval[0]))


def warn_of_cut(task: str, cut: int, all_of_it: str, loaded: TextModel) -> None:
    """Warn where texts lost their beginning, as lm-evaluation-harness does; ``all_of_it``: as in "13 questions"."""
    if cut:
        log.warning(
            "%s: %d of %s do not fit into the model's context of %d tokens; the beginning of their text is left out",
            task, cut, all_of_it, loaded.source.context,
        )  # fmt: skip


class _Continuation(NamedTuple):
    where: Ids
    """of its tokens in the result"""
    tokens: list[int]


class _Question(NamedTuple):
    """A row: a context and the continuations that are read after it."""

    context: tuple[int, ...]
    continuations: list[_Continuation]

    @property
    def length(self) -> int:
        """Tokens to read: the last one of a continuation is a target only."""
        return len(self.context) + sum(len(continuation.tokens) - 1 for continuation in self.continuations)


def _room_for_context(continuation: _Continuation, limit: int) -> int:
    """Tokens of context that fit before a continuation, whose last token is a target only."""
    return limit + 1 - len(continuation.tokens)


def _questions(requests: Sequence[EncodedRequest], wholes: list[_Continuation], limit: int) -> list[_Question]:
    """Continuations by their context, as much of it as fits before them, in rows of up to ``limit`` tokens."""
    rows: list[_Question] = []
    open_rows: dict[tuple[int, ...], _Question] = {}
    for request, whole in zip(requests, wholes, strict=True):
        context = tuple(request.context[-_room_for_context(whole, limit) :])
        row = open_rows.get(context)
        if row is None or row.length + len(whole.tokens) - 1 > limit:
            row = open_rows[context] = _Question(context, [])
            rows.append(row)
        row.continuations.append(whole)
    return rows


def _batches(questions: list[_Question], batch_size: int) -> Iterator[ScoringBatch]:
    ordered = sorted(questions, key=lambda question: -question.length)
    for first in progress(range(0, len(ordered), batch_size)):
        yield _batch(ordered[first : first + batch_size])


def _batch(questions: list[_Question]) -> ScoringBatch:
    """Context, first continuation, second continuation, ... in a row; each continues at the end of the context."""
    shape = len(questions), questions[0].length
    inputs_BT, pos_BT, segment_BT = (np.zeros(shape, np.int64) for _ in range(3))
    rows, columns, targets, where = [], [], [], []
    for row, (context, continuations) in enumerate(questions):
        end = len(context)
        inputs_BT[row, :end], pos_BT[row, :end], segment_BT[row, :end] = context, np.arange(end), SHARED
        for number, continuation in enumerate(continuations, start=1):
            begin, end = end, end + len(continuation.tokens) - 1
            inputs_BT[row, begin:end], segment_BT[row, begin:end] = continuation.tokens[:-1], number
            pos_BT[row, begin:end] = np.arange(len(context), len(context) + end - begin)
            rows.append(np.full(len(continuation.tokens), row))
            columns.append(np.array([len(context) - 1, *range(begin, end)]))
            targets.append(np.array(continuation.tokens))
            where.append(continuation.where)
    shared = any(len(question.continuations) > 1 for question in questions)
    layout = Layout(torch.from_numpy(pos_BT), torch.from_numpy(segment_BT)) if shared else None
    return ScoringBatch(inputs_BT, layout, *(np.concatenate(parts) for parts in (rows, columns, targets, where)))
