"""gpt2lab.generation.weights.ScreenedHead: the largest logits are those of float32, however close they are."""

import pytest
import torch
from torch.nn import functional as F

from gpt2lab.generation.weights import BF16_ROUNDING, ScreenedHead


def screened(weight_VC, largest):
    """The head with a bf16 product that every processor has."""
    return ScreenedHead(weight_VC, lambda hidden: F.linear(hidden.bfloat16(), weight_VC.bfloat16()), largest)


@pytest.mark.parametrize("largest", [1, 2, 20, 500, 1000])
@pytest.mark.parametrize("offset", [0.0, -100.0])
def test_largest_logits_are_exact(largest, offset):
    """Pairs of ids whose logits differ by less than bf16 can tell apart, and logits as far from 0 as GPT-2's."""
    torch.manual_seed(0)
    weight_VC, hidden_BC = torch.randn(500, 64), torch.randn(3, 64)
    weight_VC[250:] = weight_VC[:250] + 1e-4 * torch.randn(250, 64)
    weight_VC[:, 0], hidden_BC[:, 0] = offset, 1.0
    exact_BV = F.linear(hidden_BC, weight_VC)
    logits_BV = screened(weight_VC, largest)(hidden_BC)
    assert logits_BV.dtype == torch.float32
    k = min(largest, 500)
    torch.testing.assert_close(logits_BV.topk(k).values, exact_BV.topk(k).values, rtol=1e-5, atol=1e-4)
    for row, exact in zip(logits_BV, exact_BV, strict=True):
        assert set(row.topk(k).indices.tolist()) == set(exact.topk(k).indices.tolist())
    assert k == 500 or (logits_BV != exact_BV).any()  # the others are left as they are


def test_logits_equal_to_the_last_of_the_largest_are_exact():
    weight_VC, hidden_BC = torch.randn(40, 16), torch.randn(1, 16)
    weight_VC[10:20] = weight_VC[(weight_VC @ hidden_BC[0]).argmax()]
    logits_V = screened(weight_VC, 3)(hidden_BC)[0]
    exact_V = F.linear(hidden_BC, weight_VC)[0]
    assert torch.equal(logits_V.argsort(descending=True)[:11].sort().values, exact_V.topk(11).indices.sort().values)
    torch.testing.assert_close(logits_V.topk(11).values, exact_V.topk(11).values, rtol=1e-5, atol=1e-5)


DOWN, UP = 1 + 0.98 * BF16_ROUNDING, 1 + 1.02 * BF16_ROUNDING


@pytest.mark.parametrize(
    ("hidden", "weights", "offset"),
    [
        ((DOWN, UP), (DOWN, UP), 0.0),
        ((DOWN, UP), (1.0, 1.0), -256.0),
        ((1.0, 1.0), (DOWN, UP), -256.0),
        ((1.0, 1.0), (DOWN / 256, UP / 256), 256.0),  # the rounding of the result alone is 1
    ],
)
def test_the_worst_rounding_does_not_hide_the_largest_logit(hidden, weights, offset):
    """All numbers of the larger logit are rounded down, all of the smaller one up, by nearly the most that there is."""
    C = 256
    hidden_BC = torch.cat([torch.full((C,), hidden[0]), torch.full((C,), hidden[1]), torch.ones(1)])[None]
    weight_VC = torch.zeros(2, 2 * C + 1)
    weight_VC[0, :C], weight_VC[1, C : 2 * C], weight_VC[:, -1] = weights[0], weights[1], offset
    weight_VC[1, C] *= 0.75  # so that the second is the smaller one
    exact_V = weight_VC.double() @ hidden_BC[0].double()
    assert exact_V[0] > exact_V[1]
    in_bf16_V = F.linear(hidden_BC.bfloat16(), weight_VC.bfloat16())[0].float()
    assert in_bf16_V[1] > in_bf16_V[0]
    assert screened(weight_VC, 1)(hidden_BC).argmax() == 0


def test_nan_is_not_hidden():
    weight_VC = torch.randn(20, 8)
    hidden_BC = torch.stack([torch.randn(8), torch.full((8,), torch.nan)])
    logits_BV = screened(weight_VC, 1)(hidden_BC)
    assert logits_BV[0].isfinite().all()
    assert logits_BV[1].isnan().any()
