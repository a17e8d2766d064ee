"""How a set of texts differ from each other. All functions take the token ids of the texts; NaN where undefined.

All of them depend on how many texts there are and how long they are: compare sets of equal number and lengths.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Text = Sequence[int]
Ngram = tuple[int, ...]

SMOOTHING = 0.1
"""put for a precision's numerator of 0; method 1 of Chen and Cherry 2014, with nltk's epsilon"""
ZIPF_RANKS = 5000
"""most frequent tokens that the slope is fitted to, as in the code of Holtzman et al. 2020"""


def distinct_n(texts: Sequence[Text], n: int) -> float:
    """Different n-grams / all n-grams, over the texts together. Li et al. 2016."""
    ngrams = [ngram for text in texts for ngram in _ngrams(text, n)]
    return len(set(ngrams)) / len(ngrams) if ngrams else math.nan


def zipf_coefficient(texts: Sequence[Text]) -> float:
    """s of frequency ~ rank^-s: minus the slope of log frequency over log rank, by least squares.

    Zipf 1949, in the form of Holtzman et al. 2020: the 5,000 most frequent tokens.
    """
    counts = sorted(Counter(token for text in texts for token in text).values(), reverse=True)[:ZIPF_RANKS]
    if len(counts) < 2:
        return math.nan
    slope, _ = np.polyfit(np.log(np.arange(1, len(counts) + 1)), np.log(counts), 1)
    return float(-slope)


def self_bleu(texts: Sequence[Text], n: int = 4) -> float:
    """Mean BLEU-n of each text with all the others as references. Zhu et al. 2018; 1: all alike.

    BLEU is that of Papineni et al. 2002 on token ids: geometric mean of the clipped precisions of 1- to n-grams, each
    of equal weight, times the brevity penalty of the closest reference length. A precision without a match counts as
    0.1 / n-grams (``SMOOTHING``), as Texygen and Holtzman et al. have it from nltk; a text that shares no token
    with the others scores 0. Empty texts are left out, as hypotheses and as references.
    """
    filled = [text for text in texts if len(text)]
    if len(filled) < 2:
        return math.nan
    references = [_References(filled, order) for order in range(1, n + 1)]
    lengths = Counter(map(len, filled))
    scores = [_bleu(text, index, references, lengths) for index, text in enumerate(filled)]
    return math.fsum(scores) / len(scores)


class _Best(NamedTuple):
    """The highest count of an n-gram in a text, whose it is, and the highest in any other text."""

    highest: int
    owner: int
    second: int


class _References:
    """Highest counts of each n-gram, so that any text can be left out without counting the others again."""

    def __init__(self, texts: Sequence[Text], n: int) -> None:
        self.n = n
        self.counts = [Counter(_ngrams(text, n)) for text in texts]
        self.best: dict[Ngram, _Best] = {}
        for owner, counts in enumerate(self.counts):
            for ngram, count in counts.items():
                best = self.best.get(ngram, _Best(0, -1, 0))
                if count > best.highest:
                    self.best[ngram] = _Best(count, owner, best.highest)
                elif count > best.second:
                    self.best[ngram] = best._replace(second=count)

    def matches(self, index: int) -> tuple[int, int]:
        """n-grams of text ``index``: those found in the other texts, each as often as in one of them; and all."""
        clipped = 0
        for ngram, count in self.counts[index].items():
            best = self.best[ngram]
            clipped += min(count, best.second if best.owner == index else best.highest)
        return clipped, sum(self.counts[index].values())


def _bleu(text: Text, index: int, references: list[_References], lengths: Counter[int]) -> float:
    matches = [reference.matches(index) for reference in references]
    if matches[0][0] == 0:
        return 0.0
    log_precisions = [math.log((clipped or SMOOTHING) / max(1, total)) for clipped, total in matches]
    others = [length for length, count in lengths.items() if count > (length == len(text))]
    closest = min(others, key=lambda length: (abs(length - len(text)), length))
    brevity = min(0.0, 1 - closest / len(text))
    return math.exp(brevity + math.fsum(log_precisions) / len(log_precisions))


def _ngrams(text: Text, n: int) -> list[Ngram]:
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
