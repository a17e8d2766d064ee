"""The paired difference of two models against a brute-force jackknife."""

import math

import numpy as np
import pytest
from scipy import stats

from gpt2lab.config import UserError
from gpt2lab.evaluation.comparison import compare, comparison_part
from gpt2lab.evaluation.results import DocumentScores

RNG = np.random.default_rng(0)
TOKENS_D = RNG.integers(20, 400, 29)
DIFFICULTY_D = RNG.normal(4, 1, 29)


def scores_of(shift, noise=0.02, tokens_D=TOKENS_D, seed=1):
    """A model whose loss is the document's difficulty + ``shift`` nats per token, and noise."""
    nats_D = tokens_D * (
        DIFFICULTY_D[: len(tokens_D)] + shift + np.random.default_rng(seed).normal(0, noise, len(tokens_D))
    )
    return DocumentScores(nats_D, tokens_D, 4 * tokens_D, None)


def test_difference_and_interval():
    ours, baseline = scores_of(-0.05), scores_of(0.0, seed=2)
    found = compare(ours, baseline, "it")
    d_D = ours.nats_D - baseline.nats_D
    assert found.nats_per_token == pytest.approx(d_D.sum() / TOKENS_D.sum())
    assert found.bits_per_byte == pytest.approx(d_D.sum() / (4 * TOKENS_D).sum() / math.log(2))
    without_D = np.array([np.delete(d_D, i).sum() / np.delete(TOKENS_D, i).sum() for i in range(29)])
    half = stats.t.ppf(0.975, 28) * math.sqrt(28 / 29 * ((without_D - without_D.mean()) ** 2).sum())
    assert found.nats_per_token_interval == pytest.approx((found.nats_per_token - half, found.nats_per_token + half))
    assert (found.verdict, found.documents) == ("better", 29)
    # the documents' difficulty cancels: a model's own interval is far wider
    assert half < 0.05 * stats.t.ppf(0.975, 28) * DIFFICULTY_D.std() / math.sqrt(29)


def test_verdicts():
    baseline = scores_of(0.0, seed=2)
    assert compare(scores_of(0.05), baseline, "it").verdict == "worse"
    assert compare(scores_of(0.0), baseline, "it").verdict == "undecided"
    single = scores_of(0.05, tokens_D=TOKENS_D[:1])
    alone = compare(single, scores_of(0.0, tokens_D=TOKENS_D[:1]), "it")
    assert (alone.verdict, alone.bits_per_byte_interval) == ("undecided", None)


def test_models_with_other_tokens_are_compared_by_byte():
    baseline = scores_of(0.0)
    other = DocumentScores(baseline.nats_D, 2 * TOKENS_D, baseline.bytes_D, None)
    found = compare(other, baseline, "it")
    assert (found.nats_per_token, found.bits_per_byte) == (None, 0)
    assert [row.label for row in comparison_part(found).rows] == ["bits per byte, difference"]


def test_other_documents_are_an_error():
    with pytest.raises(UserError, match="baseline=it: other bytes were scored"):
        compare(scores_of(0.0), scores_of(0.0, tokens_D=TOKENS_D[:-1]), "it")
