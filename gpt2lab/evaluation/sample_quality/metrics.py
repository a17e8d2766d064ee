"""All metrics of a set of continuations, each with a 95 % interval.

    texts, nats of their tokens -> sums of each document; statistics of the whole set -> jackknife over documents

Legend: S = texts, D = documents that the prompts are from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.evaluation.sample_quality.diversity import distinct_n, self_bleu, zipf_coefficient
from gpt2lab.evaluation.sample_quality.repetition import ends_in_loop, longest_loop, rep_n
from gpt2lab.evaluation.scoring import bounded_exp
from gpt2lab.statistics.intervals import Interval, ratio_jackknife_interval
from gpt2lab.statistics.resampling import jackknife

BLEU_ORDER = 4
SET_STATISTICS: dict[str, Callable[[Sequence[Sequence[int]]], float]] = {
    "distinct_1": partial(distinct_n, n=1),
    "distinct_2": partial(distinct_n, n=2),
    "distinct_3": partial(distinct_n, n=3),
    f"self_bleu_{BLEU_ORDER}": partial(self_bleu, n=BLEU_ORDER),
    "zipf": zipf_coefficient,
}


@dataclass(frozen=True)
class Continuations:
    """The text after each prompt, with the scorer's nats of each token."""

    texts: list[list[int]]
    nll: list[NDArray[np.float32]]
    ended: list[bool]
    """whether the text ended before ``new_tokens``, by end-of-text; kept as it was when the text is cut"""

    def cut(self, lengths: Sequence[int]) -> "Continuations":
        """The first ``lengths`` tokens of each; earlier tokens do not depend on later ones, so nor do their nats."""
        texts = [text[:length] for text, length in zip(self.texts, lengths, strict=True)]
        return replace(self, texts=texts, nll=[nll[:length] for nll, length in zip(self.nll, lengths, strict=True)])


@dataclass(frozen=True)
class TextMetrics:
    """The metrics of some texts; a value is None where it is undefined, as for texts without a token."""

    texts: int
    tokens: int
    values: dict[str, float | None]
    """by name: perplexity, rep_4, distinct_2, ..."""
    intervals: dict[str, Interval | None]
    """95 %, of each value"""

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics by the names of ``eval.json``."""
        return {"texts": self.texts, "tokens": self.tokens, **self.values, "intervals": self.intervals}


def measure(continuations: Continuations, document_S: NDArray[np.integer]) -> TextMetrics:
    """Return the metrics of texts that continue prompts.

    Args:
        continuations: one text per prompt.
        document_S: number of the document that each prompt is from.
    """
    _, rank_S = np.unique(document_S, return_inverse=True)

    def interval(numerator_S: NDArray[np.float64], denominator_S: NDArray[np.float64]) -> Interval | None:
        """Of a ratio of sums, over documents."""
        numerator_D = np.bincount(rank_S, numerator_S).astype(np.float64)
        return ratio_jackknife_interval(numerator_D, np.rint(np.bincount(rank_S, denominator_S)).astype(np.int64))

    lengths_S = np.array([len(text) for text in continuations.texts], np.float64)
    ones_S = np.ones(len(continuations.texts))
    nll_S = np.array([nll.astype(np.float64).sum() for nll in continuations.nll])
    sums = {
        "longest_loop": (np.array([longest_loop(text) for text in continuations.texts], np.float64), ones_S),
        "share_ending_in_loop": (np.array([ends_in_loop(text) for text in continuations.texts], np.float64), ones_S),
        "share_ended": (np.array(continuations.ended, np.float64), ones_S),
    }
    for n in (1, 2, 3, 4):
        rep_S = np.array([rep_n(text, n) for text in continuations.texts])
        defined_S = ~np.isnan(rep_S)
        sums[f"rep_{n}"] = (np.where(defined_S, rep_S, 0.0), defined_S.astype(np.float64))

    total_tokens = lengths_S.sum()
    bounds = interval(nll_S, lengths_S)
    values: dict[str, float | None] = {"perplexity": bounded_exp(nll_S.sum() / total_tokens) if total_tokens else None}
    intervals: dict[str, Interval | None] = {
        "perplexity": None if bounds is None else (bounded_exp(bounds[0]), bounded_exp(bounds[1]))
    }
    for name, (numerator_S, denominator_S) in sums.items():
        total = denominator_S.sum()
        values[name] = float(numerator_S.sum() / total) if total else None
        intervals[name] = interval(numerator_S, denominator_S)
    for name, statistic in SET_STATISTICS.items():
        value = statistic(continuations.texts)
        values[name] = None if math.isnan(value) else value
        intervals[name] = jackknife(statistic, continuations.texts, document_S)
    return TextMetrics(len(continuations.texts), int(total_tokens), values, intervals)
