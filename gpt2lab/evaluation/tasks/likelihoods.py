"""How likely a model finds one text after another: the questions of zero-shot tasks.

    context, continuation -> ids -> batches of like length -> log-likelihood and greedy match of the continuation

Legend: B = requests of a batch, T = tokens, N = targets of a batch, C = n_embd, V = vocab_size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from gpt2lab.config import UserError
from gpt2lab.evaluation.loaded_model import Subject
from gpt2lab.model import GPT, evaluation_mode
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


def score_requests(subject: Subject, requests: Sequence[Request], batch_size: int) -> list[Likelihood]:
    """The likelihood of each request's continuation, in their order."""
    return score_encoded(subject, [encode_request(request, subject.tokenizer) for request in requests], batch_size)


@torch.inference_mode()
def score_encoded(subject: Subject, requests: Sequence[EncodedRequest], batch_size: int) -> list[Likelihood]:
    """``score_requests`` on ids. Contexts that are too long lose their beginning.

    Requests of like length share a batch, the longest first; padding is on the right, where no token sees it.

    Raises:
        UserError: a continuation that is empty, or longer than the model's context.
    """
    context = subject.source.context
    for request in requests:
        if not 1 <= len(request.continuation) <= context:
            raise UserError(
                f"a continuation of {len(request.continuation)} tokens: expected 1 to {context}, the model's context"
            )
    rows = [(request.context + request.continuation)[-context - 1 :] for request in requests]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    likelihoods: dict[int, Likelihood] = {}
    model, runtime = subject.model, subject.runtime
    with evaluation_mode(model), runtime.autocast():
        for batch in tqdm(batches, "questions", unit="batch", leave=False, disable=None):
            inputs_BT = np.zeros((len(batch), len(rows[batch[0]]) - 1), np.int64)
            where: list[tuple[int, int, int]] = []
            for line, i in enumerate(batch):
                inputs_BT[line, : len(rows[i]) - 1] = rows[i][:-1]
                first = len(rows[i]) - len(requests[i].continuation)
                where += [(line, column - 1, rows[i][column]) for column in range(first, len(rows[i]))]
            lines_N, columns_N, targets_N = torch.tensor(where, device=runtime.device).unbind(1)
            hidden_BTC = model.hidden(torch.from_numpy(inputs_BT).to(runtime.device))
            log_p_N, greedy_N = _targets(model, hidden_BTC[lines_N, columns_N], targets_N)
            lengths = [len(requests[i].continuation) for i in batch]
            parts = zip(log_p_N.double().split(lengths), greedy_N.split(lengths), strict=True)
            for i, (log_p, greedy) in zip(batch, parts, strict=True):
                likelihoods[i] = Likelihood(log_p.sum().item(), greedy.tolist())
    return [likelihoods[i] for i in range(len(rows))]


def _targets(model: GPT, hidden_NC: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target, float32 [N], and whether it is the likeliest id, bool [N]; on the CPU."""
    logits_NV = F.linear(hidden_NC, model.head_PC)[:, : model.config.vocab_size].float()
    log_p_N = -F.cross_entropy(logits_NV, targets_N, reduction="none")
    return log_p_N.cpu(), (logits_NV.argmax(1) == targets_N).cpu()
