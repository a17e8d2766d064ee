"""gpt2lab.model.positions: what each scheme may and may not depend on."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.config import ModelConfig, PositionsConfig, UserError
from gpt2lab.model import GPT
from gpt2lab.model.positions import POSITIONS, Alibi, Rope, Sinusoidal
from tests.conftest import make_tiny_model

PROPERTY = settings(deadline=None, max_examples=10, derandomize=True)


def make(name, head_dim=8):
    return POSITIONS[name](ModelConfig(n_head=2, n_embd=2 * head_dim, positions=PositionsConfig(name=name)))


def test_rope_scores_depend_on_the_distance_alone():
    rope = make("rope")
    q, k = torch.randn(2, 1, 1, 1, 8)

    def score(q_position, k_position):
        (rotated_q, _), (_, rotated_k) = (
            rope.rotate(q, k, rope.tables(torch.tensor([[position]]))) for position in (q_position, k_position)
        )
        return (rotated_q * rotated_k).sum().item()

    for distance in (0, 1, 7, 300):
        scores = [score(start + distance, start) for start in (0, 1, 10, 500)]
        assert scores == pytest.approx([scores[0]] * 4, abs=1e-3)
    assert score(0, 0) == pytest.approx((q * k).sum().item())
    assert abs(score(7, 0) - score(0, 0)) > 0.1
    assert abs(score(7, 0) - score(0, 7)) > 0.1


def test_rope_tables_stay_float32_in_a_bfloat16_model(tiny_model):
    model = tiny_model(positions="rope")
    pos = torch.arange(12)[None]
    before = model.positions.tables(pos)
    after = model.bfloat16().positions.tables(pos)
    assert all(table.dtype == torch.float32 for table in after)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    q = torch.randn(1, 2, 12, 8, dtype=torch.bfloat16)
    rotated, _ = model.positions.rotate(q, q, after)
    exact, _ = model.positions.rotate(q.float(), q.float(), after)
    assert rotated.dtype == torch.bfloat16
    assert torch.equal(rotated, exact.bfloat16())  # rounded once, at the end


def test_rope_tables_by_their_formula():
    """cos and sin of pos theta^(-2r/width), and no two of 4096 positions alike, whatever the model's format."""
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=128, positions=PositionsConfig("rope", rope_fraction=0.5)))
    cos, sin = (table[0, 0] for table in model.bfloat16().positions.tables(torch.arange(4096)[None]))
    assert cos.shape == sin.shape == (4096, 16)  # the first 32 of a head's 64 channels, in pairs
    for pos in (0, 1, 2, 255, 256, 257, 4094, 4095):
        angles = [pos * 10_000 ** (-2 * r / 32) for r in range(16)]
        assert cos[pos].tolist() == pytest.approx([math.cos(angle) for angle in angles], abs=1e-3)
        assert sin[pos].tolist() == pytest.approx([math.sin(angle) for angle in angles], abs=1e-3)
    assert len(torch.cat([cos, sin], dim=1).unique(dim=0)) == 4096


@PROPERTY
@given(data=st.data(), fraction=st.sampled_from([0.25, 0.5, 1.0]), theta=st.sampled_from([100.0, 1e4, 5e5]))
def test_rope_keeps_lengths_and_the_unturned_channels(data, fraction, theta):
    B, T, R = (data.draw(st.integers(1, high)) for high in (3, 5, 4))
    head_dim = int(2 * R / fraction)
    positions = PositionsConfig("rope", rope_theta=theta, rope_fraction=fraction)
    rope = Rope(ModelConfig(n_head=1, n_embd=head_dim, positions=positions))
    x = torch.randn(B, 2, T, head_dim)
    pos = torch.tensor(
        data.draw(st.lists(st.lists(st.integers(0, 999), min_size=T, max_size=T), min_size=B, max_size=B))
    )
    turned, _ = rope.rotate(x, x, rope.tables(pos))
    assert torch.equal(turned[..., 2 * R :], x[..., 2 * R :])
    for r in range(R):  # each pair is a complex number, multiplied by e^(i pos theta^(-r/R))
        pair, was = (torch.complex(z[..., r], z[..., r + R]) for z in (turned, x))
        turn = torch.polar(torch.ones(B, 1, T), (pos[:, None] * theta ** (-r / R)).float())
        torch.testing.assert_close(pair, was * turn, rtol=0, atol=1e-3)


def test_sinusoidal_by_its_formula():
    C, positions = 10, Sinusoidal(ModelConfig(n_head=1, n_embd=10))
    pos = [0, 1, 7, 100, 2000]
    x = torch.randn(2, len(pos), C)
    expected = x.tolist()
    for row in expected:
        for t, p in enumerate(pos):
            for i in range(C // 2):
                angle = p / 10_000 ** (2 * i / C)
                row[t][2 * i] += math.sin(angle) / math.sqrt(C)
                row[t][2 * i + 1] += math.cos(angle) / math.sqrt(C)
    torch.testing.assert_close(positions.embed(x, torch.tensor([pos])), torch.tensor(expected), rtol=0, atol=2e-4)
    zeros = torch.zeros(1, 4096, C, dtype=torch.bfloat16)
    waves = positions.embed(zeros, torch.arange(4096)[None])
    assert waves.dtype == torch.bfloat16
    exact = positions.embed(zeros.float(), torch.arange(4096)[None])
    assert torch.equal(waves, exact.bfloat16())  # rounded once, at the end


def test_alibi_bias_by_its_formula():
    """Eight heads have the slopes 1/2, 1/4, ..., 1/256; twelve have these and 2^-0.5, 2^-1.5, 2^-2.5, 2^-3.5."""
    pos_q, pos_k = torch.tensor([[0, 1, 2], [5, 4095, 4096]]), torch.tensor([[0, 1, 2, 3], [0, 1, 4095, 4096]])
    for n_head, slopes in (
        (8, [2.0**-h for h in range(1, 9)]),
        (12, [2.0**-h for h in range(1, 9)] + [2 ** -(h + 0.5) for h in range(4)]),
    ):
        bias = Alibi(ModelConfig(n_head=n_head, n_embd=n_head)).bias(pos_q, pos_k)
        assert bias.dtype == torch.float32
        assert bias.shape == (2, n_head, 3, 4)
        for b, h, t, s in itertools.product(range(2), range(n_head), range(3), range(4)):
            expected = -slopes[h] * (pos_q[b, t] - pos_k[b, s]).item()
            assert bias[b, h, t, s].item() == pytest.approx(expected, rel=1e-6)


def test_alibi_bias_stays_float32_in_a_bfloat16_model():
    """In bfloat16 distances above 256 would be rounded to even numbers."""
    model = make_tiny_model(positions="alibi").bfloat16()
    pos = torch.arange(4096)[None]
    bias = model.positions.bias(pos[:, -1:], pos)
    assert bias.dtype == torch.float32
    assert (bias[0, 0, 0].diff() == bias[0, 0, 0, -1] - bias[0, 0, 0, -2]).all()


@pytest.mark.parametrize(
    ("heads", "fraction", "message"),
    [
        (2, 1.0, r"rope_fraction=1\.0: .* 1\.0 x 5 = 5; expected an even number above 0; try another model\.n_head"),
        (1, 0.05, r"0\.05 x 10 = 0; expected an even number above 0"),
    ],
)
def test_rope_refuses_what_has_no_pairs(heads, fraction, message):
    positions = PositionsConfig("rope", rope_fraction=fraction)
    with pytest.raises(UserError, match=message):
        Rope(ModelConfig(n_head=heads, n_embd=10, positions=positions))


def test_sinusoidal_refuses_an_odd_width():
    with pytest.raises(UserError, match=r"^model\.n_embd=9: .* expected an even number; try model\.n_embd=10$"):
        Sinusoidal(ModelConfig(n_head=3, n_embd=9))


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_may_differ_between_rows(name):
    positions = make(name)
    pos = torch.stack([torch.arange(3, 9), torch.tensor([0, 1, 0, 1, 2, 3])])
    x, (q, k) = torch.randn(2, 6, 16), torch.randn(2, 2, 2, 6, 8)

    def outputs(x, q, k, pos):
        bias = positions.bias(pos, pos)
        bias = torch.zeros(len(pos), 2, 6, 6) if bias is None else bias
        return (positions.embed(x, pos), *positions.rotate(q, k, positions.tables(pos)), bias)

    together = outputs(x, q, k, pos)
    for row in range(2):
        one = slice(row, row + 1)
        alone = outputs(x[one], q[one], k[one], pos[one])
        assert all(torch.equal(a[one], b) for a, b in zip(together, alone, strict=True))
    untouched = (x, q, k, torch.zeros(2, 2, 6, 6))
    different = any(not torch.equal(a[0], b[0]) for a, b in zip(together, untouched, strict=True))
    assert different == (name != "none")
