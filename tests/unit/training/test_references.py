"""Bigram and unigram losses against counts in dictionaries."""

import dataclasses
import itertools
import math
from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from gpt2lab.config import MixtureConfig, PrepareConfig
from gpt2lab.data import open_dataset, prepare
from gpt2lab.distributed import World
from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.runtime import open_runtime
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.training import references
from gpt2lab.training.build import build_model, build_trainer
from gpt2lab.training.references import bigram, unigram, witten_bell_loss

BYTES = load_tokenizer("bytes")


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


def test_bits_per_byte_of_a_mixture_are_over_the_bytes_that_the_model_is_scored_on(make_trainer, tmp_path):
    """One byte per token and none for end-of-text, which the short documents of the larger dataset have more of."""
    text = tmp_path / "short.txt"
    text.write_text("\n\n".join(f"{i % 10}{'x' * (i // 400)}" for i in range(4000)))
    first = make_trainer("first")
    short = dataclasses.replace(first.job.data, name="short", files=[str(text)])
    prepare(short, PrepareConfig(), BYTES)
    mixture = MixtureConfig(root=str(tmp_path), mixture={"short": 0.2, "t": 0.8})
    job = dataclasses.replace(first.job, data=mixture)
    (tmp_path / "run").mkdir()
    machine = open_runtime(job.runtime)
    model = build_model(job.model, job.seed, machine)
    trainer = build_trainer(job, model, BYTES, *open_dataset(mixture, BYTES), tmp_path / "run", machine, World())
    result = trainer.run()
    targets = trainer.validator.windows.batch(0, 10).targets_BT
    assert targets.size == result.validation.tokens == 160
    bytes_per_token = (targets != BYTES.eot_id).sum() / targets.size
    for score in (result.validation, *(reference.score for reference in result.references)):
        assert score.bits_per_byte == pytest.approx(score.loss / bytes_per_token / math.log(2), rel=1e-12)
    both = trainer.validator.windows.sequences.stream
    assert (both.read(0, len(both)) != BYTES.eot_id).mean() < 0.98 * bytes_per_token  # of the two splits as one text


def test_only_the_first_tokens_of_a_large_set_are_counted(monkeypatch):
    monkeypatch.setattr(references, "MAX_TRAIN_TOKENS", 10)
    asked = []

    class Stream:
        def __len__(self):
            return 1000

        def read(self, start, stop):
            asked.append((start, stop))
            return np.arange(start, stop, dtype=np.uint16) % 7

    scored = Perplexity(nll=1.0, tokens=100, bytes=300)
    bigram([Stream(), Stream()], [(Stream(), 1.0)], 7, scored)
    assert asked == [(0, 5), (0, 5), (0, 1000)]
    manifest = SimpleNamespace(splits={"val": SimpleNamespace(unigram_entropy=1.5)})
    score = unigram(manifest, scored).score
    assert (score.loss, score.tokens, score.bytes) == (1.5, 100, 300)
