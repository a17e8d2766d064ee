"""Perplexity of a corpus under a named protocol: corpus -> plan -> nll a token -> metrics with intervals.

Legend: n = tokens of the plan, D = documents.
"""

import logging
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2lab.config import EvalConfig
from gpt2lab.distributed import ALONE, World
from gpt2lab.evaluation.corpora.detokenize import DETOKENIZERS
from gpt2lab.evaluation.corpora.formats import chosen_corpus, open_corpus
from gpt2lab.evaluation.few_documents import warn_of_few_documents
from gpt2lab.evaluation.perplexity.protocols import (
    ScoringPlan,
    choose_protocol,
    line_ends_by_document,
    words_by_document,
)
from gpt2lab.evaluation.published import find_published
from gpt2lab.evaluation.results import DocumentScores, PartResult, TableRow
from gpt2lab.evaluation.scoring import Perplexity, bounded_exp, describe_precision, score_documents
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.evaluation.windows import scored_tokens
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime
from gpt2lab.statistics.intervals import describe_document_interval, ratio_jackknife_interval

log = logging.getLogger(__name__)

Intervals = dict[str, tuple[float, float]]
"""95 %, by the name of the metric; without those that are undefined for a single document"""

TABLE = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")


@dataclass(frozen=True)
class PerplexityMetrics:
    """The perplexities of a corpus, and the time that they took."""

    perplexity: Perplexity
    documents: int
    intervals: Intervals
    wall_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics by the names of ``eval.json``."""
        return {
            **self.perplexity.to_dict(),
            "documents": self.documents,
            "intervals": self.intervals,
            "wall_seconds": self.wall_seconds,
            "tokens_per_second": self.perplexity.tokens / self.wall_seconds,
        }


@dataclass(frozen=True)
class PreparedPerplexity:
    """The part ``perplexity`` of an evaluation, ready to be computed."""

    loaded: TextModel
    config: EvalConfig
    plan: ScoringPlan
    described: dict[str, Any]
    """how it is made, for ``eval.json``"""

    def __call__(self) -> PartResult:
        """Score the corpus; a score that is NaN or infinite is a ``UserError``."""
        loaded, config, plan = self.loaded, self.config, self.plan
        started = time.perf_counter()
        scores = score_plan(loaded.model, plan, loaded.runtime, config.batch_size, loaded.world)
        seconds = time.perf_counter() - started

        result, intervals = summarize_scores(scores)
        metrics = PerplexityMetrics(result, len(plan.bytes_D), intervals, seconds)
        warn_of_few_documents(len(plan.bytes_D), "perplexity")
        published = find_published(loaded.source, self.described)
        rows = [
            TableRow(name, value, intervals.get(name), *published.get(name, ()))
            for name in TABLE
            if (value := getattr(result, name)) is not None
        ]
        corpus = self.described["corpus"]
        title = f"Perplexity of {corpus}, protocol {config.protocol}: {result.tokens:,} tokens"
        return PartResult(title, metrics, rows, self.described, scores)


def prepare_perplexity(loaded: TextModel, config: EvalConfig) -> PreparedPerplexity:
    """Read the corpus and lay it out for the model.

    Raises:
        UserError: the corpus is empty or cannot be read or fetched, the stride does not fit protocol or context.
    """
    corpus_config = chosen_corpus(config)
    protocol = choose_protocol(config.protocol, loaded.source)
    corpus = open_corpus(corpus_config, loaded)
    context = loaded.source.context  # positions beyond it were never trained
    detokenize = DETOKENIZERS[corpus_config.detokenizer]
    plan = protocol.plan(corpus, loaded.tokenizer, context, config.stride, detokenize)
    if loaded.source.document_masking and plan.reads_across_documents():
        log.warning(
            "eval.protocol=%s: its windows hold several documents at once, which %s never read in training "
            "(data.document_masking=true), so this is no measure of it; eval.protocol=stream is",
            config.protocol, loaded.source.describe(),
        )  # fmt: skip
    described = {
        **corpus.description,
        "protocol": config.protocol,
        "corpus": corpus_config.name,
        "tokenizer": loaded.tokenizer.name,
        "context": context,
        "detokenizer": corpus_config.detokenizer,
        **plan.protocol,
        "precision": describe_precision(loaded.runtime),
        "text_words": int(words_by_document(corpus).sum()),
        "text_line_ends": int(line_ends_by_document(corpus).sum()),
        "interval": describe_document_interval(len(plan.bytes_D)),
    }
    return PreparedPerplexity(loaded, config, plan, described)


def score_plan(
    model: GPT, plan: ScoringPlan, runtime: Runtime, batch_size: int, world: World = ALONE
) -> DocumentScores:
    """Score the tokens of a plan and sum them by document; arguments as in ``score_documents``."""
    nats_D = score_documents(model, plan.tokens_n, plan.windows, plan.starts_D, runtime, batch_size, world)
    scored_n = scored_tokens(len(plan.tokens_n), plan.windows)
    ends_D = [*plan.starts_D[1:].tolist(), len(plan.tokens_n)]
    tokens_D = [
        np.count_nonzero(scored_n[begin:end]) for begin, end in zip(plan.starts_D.tolist(), ends_D, strict=True)
    ]
    return DocumentScores(nats_D, np.array(tokens_D, dtype=np.int64), plan.bytes_D, plan.words_D)


def summarize_scores(scores: DocumentScores) -> tuple[Perplexity, Intervals]:
    """The metrics of the sums over documents, and 95 % intervals where there are several documents."""
    words = None if scores.words_D is None else int(scores.words_D.sum())
    tokens, n_bytes = int(scores.tokens_D.sum()), int(scores.bytes_D.sum())
    result = Perplexity(math.fsum(scores.nats_D), tokens, n_bytes, words)

    intervals: Intervals = {}
    for name, units_D in (("token", scores.tokens_D), ("word", scores.words_D), ("byte", scores.bytes_D)):
        if units_D is not None and (bounds := ratio_jackknife_interval(scores.nats_D, units_D)) is not None:
            intervals[f"{name}_perplexity"] = (bounded_exp(bounds[0]), bounded_exp(bounds[1]))
            if name == "byte":
                intervals["bits_per_byte"] = (bounds[0] / math.log(2), bounds[1] / math.log(2))
    return result, intervals
