"""How likely a model finds one text after another: the questions of zero-shot tasks.

context, continuation -> ids -> batches of like length -> log-likelihood and greedy match of the continuation
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gpt2lab.config import UserError
from gpt2lab.evaluation.scoring import score_greedy
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.evaluation.windows import Window
from gpt2lab.tokenizers import Tokenizer


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
    """How a model takes a continuation."""

    log_likelihood: float
    """nats, summed over its tokens"""
    greedy: list[bool]
    """of each token: whether it is the likeliest after those before it"""

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

    White space at the end of the context goes to the continuation. An empty context is an end-of-text.
    """
    context = request.context.rstrip()
    continuation = request.context[len(context) :] + request.continuation
    if not request.context:
        return EncodedRequest([tokenizer.bos_id], tokenizer.encode(request.continuation))
    context_ids = tokenizer.encode(context)
    return EncodedRequest(
        context_ids or [tokenizer.bos_id], tokenizer.encode(context + continuation)[len(context_ids) :]
    )


def score_requests(loaded: TextModel, requests: Sequence[Request], batch_size: int) -> list[Likelihood]:
    """The likelihood of each request's continuation, in their order."""
    return score_encoded(loaded, [encode_request(request, loaded.tokenizer) for request in requests], batch_size)


def score_encoded(loaded: TextModel, requests: Sequence[EncodedRequest], batch_size: int) -> list[Likelihood]:
    """``score_requests`` on ids. Contexts that are too long lose their beginning.

    Requests of similar length share a batch, the longest first; padding is on the right,
    where no token sees it.

    Raises:
        UserError: a continuation that is empty, or longer than the model's context.
    """
    context = loaded.source.context
    for request in requests:
        if not 1 <= len(request.continuation) <= context:
            raise UserError(
                f"a continuation of {len(request.continuation)} tokens: expected 1 to {context}, the model's context"
            )
    if not requests:
        return []
    rows = [(request.context + request.continuation)[-context - 1 :] for request in requests]
    ends = np.cumsum([len(row) for row in rows]).tolist()
    windows = [
        Window(end - len(row), end, end - len(request.continuation))
        for row, end, request in zip(rows, ends, requests, strict=True)
    ]
    tokens_n = np.concatenate(rows).astype(np.int64)
    nll_n, greedy_n = score_greedy(loaded.model, tokens_n, windows, loaded.runtime, batch_size)
    return [
        Likelihood(
            -float(nll_n[window.first_scored : window.end].sum(dtype=np.float64)),
            greedy_n[window.first_scored : window.end].tolist(),
        )
        for window in windows
    ]
