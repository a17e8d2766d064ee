"""Perplexity of a corpus under a named protocol: corpus -> plan -> nll a token -> figures with intervals -> section.

Legend: n = tokens of the plan, D = documents.
"""

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import CorpusConfig, EvalConfig, choose
from gpt2lab.evaluation.corpora.detokenize import DETOKENIZERS
from gpt2lab.evaluation.corpora.formats import open_corpus
from gpt2lab.evaluation.loaded_model import Subject
from gpt2lab.evaluation.perplexity.protocols import PROTOCOLS, Plan
from gpt2lab.evaluation.published import find_published
from gpt2lab.evaluation.results import Row, Section
from gpt2lab.evaluation.scoring import Perplexity, bounded_exp, score_tokens
from gpt2lab.evaluation.windows import scored_tokens
from gpt2lab.statistics.intervals import ratio_interval

TABLE = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")


def score_corpus(subject: Subject, config: EvalConfig) -> Section:
    """The part ``perplexity`` of an evaluation.

    Raises:
        UserError: the corpus cannot be had or is empty, the stride does not fit the protocol or the context.
    """
    corpus_config = chosen_corpus(config)
    protocol = choose(PROTOCOLS, config.protocol, "eval.protocol")()
    corpus = open_corpus(corpus_config, subject)
    context = subject.source.context  # positions beyond it were never trained
    detokenize = DETOKENIZERS[corpus_config.detokenizer]
    plan = protocol.plan(corpus, subject.tokenizer, context, config.stride, detokenize)

    started = time.perf_counter()
    nll_n = score_tokens(subject.model, plan.tokens_n, plan.windows, subject.runtime, config.batch_size)
    seconds = time.perf_counter() - started

    result, intervals = summarise(plan, nll_n)
    described = {
        **corpus.description,
        "protocol": config.protocol,
        "corpus": corpus_config.name,
        "tokenizer": subject.tokenizer.name,
        "context": context,
        "detokenizer": corpus_config.detokenizer,
        **plan.protocol,
        "precision": subject.runtime.precision,
        "interval": "95 %, delta method over documents",
    }
    figures: dict[str, Any] = {
        **result.figures(),
        "documents": len(plan.bytes_D),
        "intervals": intervals,
        "protocol": described,
        "wall_seconds": seconds,
        "tokens_per_second": result.tokens / seconds,
    }
    published = find_published(subject.source, corpus_config.name, config.protocol, plan.protocol.get("stride"))
    rows = [
        Row(name, figures[name], intervals.get(name), *published.get(name, ()))
        for name in TABLE
        if figures[name] is not None
    ]
    return Section(figures, rows)


def summarise(plan: Plan, nll_n: NDArray[np.float32]) -> tuple[Perplexity, dict[str, tuple[float, float]]]:
    """The figures of a plan whose tokens cost ``nll_n`` nats, and 95 % intervals where there are several documents."""
    documents = len(plan.bytes_D)
    nll_D = np.bincount(plan.document_n, nll_n, minlength=documents).astype(np.float64)
    scored_n = scored_tokens(len(plan.tokens_n), plan.windows)
    tokens_D = np.bincount(plan.document_n[scored_n], minlength=documents)
    words = None if plan.words_D is None else int(plan.words_D.sum())
    result = Perplexity(math.fsum(nll_D), int(tokens_D.sum()), int(plan.bytes_D.sum()), words)

    intervals = {}
    for name, units_D in (("token", tokens_D), ("word", plan.words_D), ("byte", plan.bytes_D)):
        if units_D is not None and (bounds := ratio_interval(nll_D, units_D)) is not None:
            intervals[f"{name}_perplexity"] = (bounded_exp(bounds[0]), bounded_exp(bounds[1]))
            if name == "byte":
                intervals["bits_per_byte"] = (bounds[0] / math.log(2), bounds[1] / math.log(2))
    return result, intervals


def chosen_corpus(config: EvalConfig) -> CorpusConfig:
    """The corpus that an evaluation is on: ``text_file`` where it is given, else ``corpus``."""
    if config.text_file:
        return CorpusConfig(name="text_file", form="text", file=config.text_file)
    return config.corpus
