"""gpt2lab.model.positions: what each scheme may and may not depend on."""

import pytest
import torch

from gpt2lab.config import ModelConfig, PositionsConfig, UserError
from gpt2lab.model.positions import POSITIONS, Rope, Sinusoidal


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


@pytest.mark.parametrize(
    ("heads", "fraction", "message"),
    [
        (2, 1.0, r"1\.0 x 5 = 5 is not an even number above 0; choose model\.n_head"),
        (1, 0.05, r"0\.05 x 10 = 0 is not"),
    ],
)
def test_rope_refuses_what_has_no_pairs(heads, fraction, message):
    positions = PositionsConfig("rope", rope_fraction=fraction)
    with pytest.raises(UserError, match=message):
        Rope(ModelConfig(n_head=heads, n_embd=10, positions=positions))


def test_sinusoidal_refuses_an_odd_width():
    with pytest.raises(UserError, match=r"model\.n_embd=9 is odd$"):
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
