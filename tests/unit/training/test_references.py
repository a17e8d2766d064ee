"""Bigram and unigram losses against counts in dictionaries."""

import itertools
import math
from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from gpt2lab.training import references
from gpt2lab.training.references import bigram, unigram, witten_bell_loss


def brute_force(train, val, vocab_size):
    """The formulas of the docstring, one token at a time."""
    counts, following = Counter(train), defaultdict(Counter)
    for before, after in itertools.pairwise(train):
        following[before][after] += 1

    def p_unigram(token):
        return (counts[token] + len(counts) / vocab_size) / (len(train) + len(counts))

    nll = 0.0
    for before, after in itertools.pairwise(val):
        seen = following.get(before)
        if seen is None:
            p = p_unigram(after)
        else:
            p = (seen[after] + len(seen) * p_unigram(after)) / (sum(seen.values()) + len(seen))
        nll -= math.log(p)
    return nll / (len(val) - 1)


@pytest.mark.parametrize("vocab_size", [5, 300])
def test_bigram_loss_equals_brute_force(vocab_size):
    rng = np.random.default_rng(vocab_size)
    train = rng.integers(vocab_size // 2 + 1, size=400).astype(np.uint16)
    val = rng.integers(vocab_size, size=150).astype(np.uint16)  # tokens that were never seen among them
    expected = brute_force(train.tolist(), val.tolist(), vocab_size)
    assert witten_bell_loss(train, val, vocab_size) == pytest.approx(expected, rel=1e-12)


def test_bigram_probabilities_sum_to_one():
    train = np.array([0, 1, 2, 1, 0, 0, 3, 1], dtype=np.uint16)
    for context in range(6):
        losses = [witten_bell_loss(train, np.array([context, token], dtype=np.uint16), 6) for token in range(6)]
        assert sum(math.exp(-loss) for loss in losses) == pytest.approx(1)


def test_references_are_per_token_of_the_validation_split(make_trainer):
    trainer = make_trainer("run")
    result = trainer.run()
    by_name = {reference.name: reference.score for reference in result.references}
    val = trainer.validator.windows.sequences.stream
    counts = np.bincount(val.read(0, len(val)))
    p = counts[counts > 0] / counts.sum()
    assert by_name["unigram"].loss == pytest.approx(-(p * np.log(p)).sum(), rel=1e-9)
    train = trainer.batches.datasets[0].stream
    whole = [stream.read(0, len(stream)).tolist() for stream in (train, val)]
    assert by_name["bigram"].loss == pytest.approx(brute_force(*whole, 257), rel=1e-9)
    assert result.summary["bigram_loss"] == by_name["bigram"].loss
    assert result.summary["unigram_bits_per_byte"] == by_name["unigram"].bits_per_byte


def test_only_the_first_tokens_of_a_large_set_are_counted(monkeypatch):
    monkeypatch.setattr(references, "MAX_TRAIN_TOKENS", 10)
    asked = []

    class Stream:
        def __len__(self):
            return 1000

        def read(self, start, stop):
            asked.append((start, stop))
            return np.arange(start, stop, dtype=np.uint16) % 7

    split = SimpleNamespace(tokens=1000, bytes=3000, unigram_entropy=1.5)
    manifest = SimpleNamespace(vocab_size=7, splits={"val": split})
    bigram([Stream(), Stream()], [(Stream(), 1.0)], manifest)
    assert asked == [(0, 5), (0, 5), (0, 1000)]
    assert unigram(manifest).score.loss == 1.5
