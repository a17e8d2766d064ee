"""gpt2lab.generation.filters: filters and draws against plain Python."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from gpt2lab.config import DecodingConfig, SamplingConfig
from gpt2lab.generation.filters import NOT_FINITE, draw, keep_top_p, next_tokens, sampling_probs

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True)
V = 100


def probs_by_hand(logits, temperature, top_k, top_p):
    """One row, in plain Python, from the definitions."""
    scaled = [x / temperature for x in logits]
    if top_k:
        kth = sorted(scaled, reverse=True)[min(top_k, len(scaled)) - 1]
        scaled = [x if x >= kth else -math.inf for x in scaled]
    weights = [math.exp(x - max(scaled)) for x in scaled]
    probs = [w / sum(weights) for w in weights]
    if top_p:
        kept, reached = set(), 0.0
        for i in sorted(range(len(probs)), key=lambda i: -probs[i]):
            if reached >= top_p:
                break
            kept.add(i)
            reached += probs[i]
        probs = [p if i in kept else 0.0 for i, p in enumerate(probs)]
    return [p / sum(probs) for p in probs]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 3, 99])
@pytest.mark.parametrize("top_p", [None, 1e-9, 0.5, 0.9, 1.0])
def test_filters_against_plain_python(temperature, top_k, top_p):
    logits = torch.randn(5, 17, generator=Generator().manual_seed(1)) * 3
    probs = sampling_probs(logits, SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p))
    for row, expected in zip(probs, logits.tolist(), strict=True):
        assert row.tolist() == pytest.approx(probs_by_hand(expected, temperature, top_k, top_p), abs=1e-6)


def test_extremes_of_temperature():
    logits = torch.tensor([[1.0, 5.0, 4.9], [7.0, -1e30, 7.0]])
    assert sampling_probs(logits, SamplingConfig(temperature=0)).tolist() == [[0, 1, 0], [1, 0, 0]]
    tiny = sampling_probs(logits, SamplingConfig(temperature=1e-30))
    assert tiny.tolist() == [[0, 1, 0], [0.5, 0, 0.5]]
    assert sampling_probs(logits, SamplingConfig(temperature=1e-60)).tolist() == tiny.tolist()  # 0 in float32


def test_ties():
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0]])
    thirds = [0, 1 / 3, 1 / 3, 0, 1 / 3]
    assert sampling_probs(logits, SamplingConfig(top_k=1))[0].tolist() == pytest.approx(thirds)
    assert sampling_probs(logits, SamplingConfig(top_k=3))[0].tolist() == pytest.approx(thirds)
    probs = sampling_probs(logits, SamplingConfig(top_k=3, top_p=0.5))  # two of the three reach it: the first two
    assert probs[0].tolist() == pytest.approx([0, 0.5, 0.5, 0, 0])
    half_of_many = sampling_probs(torch.zeros(1, 4096), SamplingConfig(top_p=0.5))
    assert half_of_many[0].nonzero().flatten().tolist() == list(range(2048))


def test_a_top_p_of_one_keeps_every_token_of_a_large_vocabulary():
    logits = torch.randn(4, 50_257) * 3
    assert (sampling_probs(logits, SamplingConfig(top_p=1.0)) > 0).all()


def test_draws_have_the_probabilities():
    probs = torch.tensor([0.5, 0.0, 0.3, 0.2, 0.0])
    generator, n = Generator().manual_seed(0), 20_000
    ids = draw(probs.expand(n, -1), torch.rand(n, generator=generator, dtype=torch.float64))
    counts = ids.bincount(minlength=5)
    assert counts[1] == counts[4] == 0
    deviation = (counts - n * probs).abs()
    assert (deviation <= 4 * (n * probs * (1 - probs)).sqrt()).all()


@pytest.mark.parametrize("total", [1 - 1e-6, 1 + 1e-6])
@pytest.mark.parametrize(("uniform", "expected"), [(0.0, 1), (1 - 2**-53, 2)])
def test_a_sum_off_one_draws_no_impossible_token(total, uniform, expected):
    probs = torch.tensor([[0.0, 0.6, 0.4, 0.0]]) * total
    assert draw(probs, torch.tensor([uniform], dtype=torch.float64)).item() == expected


@pytest.mark.parametrize("settings", [{"temperature": 0}, {}, {"top_k": 3}, {"top_p": 0.9}], ids=str)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_next_tokens_marks_rows_that_are_not_finite(settings, bad):
    logits = torch.randn(3, V)
    logits[1, 7] = bad
    ids = next_tokens(logits, DecodingConfig(**settings), torch.rand(3, dtype=torch.float64))
    assert (ids == NOT_FINITE).tolist() == [False, True, False]
    nowhere = torch.full((1, V), -torch.inf)
    assert next_tokens(nowhere, DecodingConfig(**settings), torch.zeros(1, dtype=torch.float64)).item() == NOT_FINITE


def keep_top_p_by_sorting(probs, p):
    """The definition, on a whole vocabulary."""
    order = sorted(range(len(probs)), key=lambda i: -probs[i])
    total, reached, kept = math.fsum(probs), 0.0, []
    for i in order:
        if reached >= p * total:
            break
        kept.append(i)
        reached += probs[i]
    return sorted(kept)


@pytest.mark.parametrize("scale", [0.1, 3.0, 12.0])
@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999, 0.999999])
def test_keep_top_p_of_a_large_vocabulary_is_the_sorted_prefix(p, scale):
    probs = (torch.randn(3, 50_257) * scale).softmax(-1)
    for kept, row in zip(keep_top_p(probs, p), probs, strict=True):
        assert kept.nonzero()[:, 0].tolist() == keep_top_p_by_sorting(row.tolist(), p)
        assert kept.sum().item() == pytest.approx(1, abs=1e-5)


def test_keep_top_p_with_ties_keeps_the_first():
    probs = (torch.randint(4, (8, 6000)).float() * 3).softmax(-1)
    for kept, row in zip(keep_top_p(probs, 0.6), probs, strict=True):
        assert kept.nonzero()[:, 0].tolist() == keep_top_p_by_sorting(row.tolist(), 0.6)


def test_keep_top_p_sorts_only_likely_tokens(monkeypatch):
    sizes = []
    sort = torch.Tensor.sort
    monkeypatch.setattr(
        torch.Tensor, "sort", lambda self, **options: (sizes.append(len(self)), sort(self, **options))[1]
    )
    keep_top_p((torch.randn(2, 50_257) * 5).softmax(-1), 0.9)
    assert len(sizes) == 2
    assert max(sizes) < 20_000


@PROPERTY
@given(
    logits=st.lists(st.integers(-40, 40), min_size=1, max_size=30),
    temperature=st.floats(0.05, 50),
    top_k=st.none() | st.integers(1, 40),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_filters_of_any_logits_against_plain_python(logits, temperature, top_k, top_p):
    """Logits are distinct, so that rounding cannot choose between equals."""
    distinct = [value / 4 + i / 1000 for i, value in enumerate(logits)]
    sampling = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    probs = sampling_probs(torch.tensor([distinct]), sampling)[0].tolist()
    assert math.fsum(probs) == pytest.approx(1, abs=1e-5)
    near_the_edge = [probs_by_hand(distinct, temperature, top_k, p) for p in edges(top_p)]
    assert any(probs == pytest.approx(expected, abs=1e-4) for expected in near_the_edge)


def edges(top_p):
    """A sum that reaches p in exact numbers may miss it by a rounding in float32."""
    return [None] if top_p is None else [top_p, top_p - 1e-6, min(1.0, top_p + 1e-6)]
