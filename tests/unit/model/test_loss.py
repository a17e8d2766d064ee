"""gpt2lab.model.loss against cross_entropy of the full logits, in value and in both gradients.

The head has 5 rows of padding after its 40 ids, with weights large enough to take all probability if they could.
"""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpt2lab.model import loss
from gpt2lab.model.loss import objective_sum, target_nll

V, P, C = 40, 45, 8


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    """Groups of 7 tokens."""
    monkeypatch.setitem(loss.GROUP_LOGITS, "cpu", 7 * P)


def make_inputs(n, dtype=torch.float32, scale=1.0):
    hidden = (torch.randn(n, C, dtype=dtype) * scale).requires_grad_()
    weight = torch.randn(P, C, dtype=dtype)
    weight[V:] *= 100
    return hidden, weight.requires_grad_(), torch.randint(V, (n,))


def ignored(kind, n):
    rows = {
        "none": [],
        "first": [0],
        "last": [-1],
        "some": range(0, n, 3),
        "all": range(n),
        "a group": range(min(7, n)),
    }
    return list(rows[kind])


def plain(hidden, weight, targets):
    return F.cross_entropy(hidden @ weight[:V].t(), targets, ignore_index=-100, reduction="none")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["none", "first", "last", "some", "all", "a group"])
@pytest.mark.parametrize("n", [1, 6, 7, 8, 23, 50])
def test_value_and_both_gradients(n, kind, dtype):
    hidden, weight, targets = make_inputs(n, dtype)
    targets[ignored(kind, n)] = -100
    total, _ = objective_sum(hidden, weight, targets, V)
    terms = plain(hidden, weight, targets)
    ours = torch.autograd.grad(total, (hidden, weight), torch.tensor(-2.5))
    theirs = torch.autograd.grad(terms.sum(), (hidden, weight), torch.tensor(-2.5, dtype=dtype))

    tolerance = {"rtol": 1e-6, "atol": 1e-6}
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, terms.sum().float(), **tolerance)
    torch.testing.assert_close(target_nll(hidden, weight, targets, V), terms.detach().float(), **tolerance)
    for gradient, expected in zip(ours, theirs, strict=True):
        assert (gradient - expected).norm() <= 1e-6 * expected.norm()
    assert (ours[0][ignored(kind, n)] == 0).all()
    assert (ours[1][V:] == 0).all()


def test_no_tokens_at_all():
    hidden, weight, targets = make_inputs(0)
    total, _ = objective_sum(hidden, weight, targets, V)
    total.backward()
    assert total == 0
    assert (weight.grad == 0).all()
    assert target_nll(hidden, weight, targets, V).shape == (0,)


def test_gradients_add_up_over_calls():
    hidden, weight, targets = make_inputs(20)
    (plain(hidden, weight, targets).sum() / 20).backward()
    whole = weight.grad.clone()
    weight.grad = None
    for part in (slice(0, 3), slice(3, 20)):
        (objective_sum(hidden.detach()[part], weight, targets[part], V)[0] / 20).backward()
    torch.testing.assert_close(weight.grad, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("frozen", [0, 1])
def test_one_side_may_be_frozen(frozen):
    *sides, targets = make_inputs(20)
    sides[frozen].requires_grad_(False)
    (ours,) = torch.autograd.grad(objective_sum(*sides, targets, V)[0], sides[1 - frozen])
    (theirs,) = torch.autograd.grad(plain(*sides, targets).sum(), sides[1 - frozen])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_bfloat16_autocast_to_rounding():
    hidden, weight, targets = make_inputs(200)
    targets[::5] = -100
    with torch.autocast("cpu", dtype=torch.bfloat16), Watch() as watch:
        total, _ = objective_sum(hidden, weight, targets, V)
        terms = target_nll(hidden, weight, targets, V)
    gradients = torch.autograd.grad(total, (hidden, weight))
    exact = plain(hidden, weight, targets)
    exact_gradients = torch.autograd.grad(exact.sum(), (hidden, weight))

    assert watch.product_formats == {torch.bfloat16}
    assert total.dtype == terms.dtype == torch.float32
    assert total.item() == pytest.approx(exact.sum().item(), rel=2e-3)
    of_rounded_factors = plain(hidden.bfloat16().float(), weight.bfloat16().float(), targets).detach()
    torch.testing.assert_close(terms, of_rounded_factors, rtol=2**-7, atol=2**-9)
    torch.testing.assert_close(terms, exact.detach(), rtol=0, atol=0.1)
    for gradient, expected in zip(gradients, exact_gradients, strict=True):
        assert gradient.dtype == torch.float32
        assert ((gradient - expected).norm() / expected.norm()).item() < 0.01
    assert (gradients[0][::5] == 0).all()


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_huge_logits_do_not_overflow(scale):
    hidden, weight, targets = make_inputs(30, scale=scale)
    total, _ = objective_sum(hidden, weight, targets, V)
    torch.testing.assert_close(total, plain(hidden, weight, targets).sum(), rtol=1e-6, atol=0)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(total, (hidden, weight)))


@pytest.mark.parametrize("margin", [1.0, 3.0, 5.0])
def test_a_small_loss_keeps_its_digits_beside_large_logits(margin):
    hidden = torch.tensor([[10_000.0, margin]])
    weight = torch.zeros(V, 2)
    weight[:, 0], weight[3, 1] = 1.0, 1.0  # every logit is 10,000, the target's a little more
    expected = math.log(1 + (V - 1) * math.exp(-margin))
    assert objective_sum(hidden, weight, torch.tensor([3]), V)[0].item() == pytest.approx(expected, rel=1e-6)


def test_large_common_logits_are_not_rounded_away_in_bfloat16():
    """All logits are near -100, where bf16 numbers are 0.5 apart; the loss is that of their differences."""
    hidden, weight, targets = make_inputs(500)
    hidden, weight = hidden.detach().bfloat16().float(), weight.detach().bfloat16().float()
    far_hidden, far_weight = (
        torch.cat([x, torch.full((len(x), 1), c)], 1) for x, c in ((hidden, 10.0), (weight, -10.0))
    )
    exact = plain(hidden, weight, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = target_nll(far_hidden, far_weight, targets, V)
        total, _ = objective_sum(far_hidden.requires_grad_(), far_weight.requires_grad_(), targets, V)
    torch.testing.assert_close(terms, exact, rtol=2**-7, atol=2**-8)
    assert total.item() == pytest.approx(exact.sum().item(), rel=2e-4)
    naive = F.cross_entropy((far_hidden.bfloat16() @ far_weight[:V].bfloat16().t()).float(), targets, reduction="none")
    assert (naive - exact).abs().mean() > 10 * (terms - exact).abs().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_of_a_certain_prediction_keeps_its_digits(dtype):
    """p - 1 of a target with p = 1 - 1e-4 would be 0 or 100 times too large if p were rounded to bf16 first."""
    hidden, weight, targets = torch.tensor([[1.0, 0.0]]), torch.zeros(V, 2), torch.tensor([5])
    weight[5, 0] = 13.0
    rest = (V - 1) * math.exp(-13)
    hidden.requires_grad_(), weight.requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        objective, nll = objective_sum(hidden, weight, targets, V)
    _, grad_weight = torch.autograd.grad(objective, (hidden, weight))
    tolerance = 1e-5 if dtype == torch.float32 else 2**-7
    assert nll.item() == pytest.approx(math.log1p(rest), rel=tolerance)
    assert grad_weight[5, 0].item() == pytest.approx(-rest / (1 + rest), rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_targets_that_are_next_to_impossible(dtype):
    """The loss is 100 or more: e^100 is beyond float32, and e^12 beyond float16."""
    hidden = torch.tensor([[1.0, 2.0], [1.0, 0.0]])
    weight = torch.zeros(V, 2)
    weight[5] = torch.tensor([100.0, 20.0])
    hidden.requires_grad_(), weight.requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        objective, _ = objective_sum(hidden, weight, torch.tensor([3, 5]), V)
    gradients = torch.autograd.grad(objective, (hidden, weight))
    assert objective.item() == pytest.approx(140, rel=2**-8)
    assert gradients[1][5].tolist() == pytest.approx([1, 2], rel=2**-7)
    assert gradients[1][3].tolist() == pytest.approx([-1, -2], rel=2**-7)
    assert gradients[0][0].tolist() == pytest.approx([100, 20], rel=2**-7)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("distance", [0, 20, 44, 45, 60, 84, 86, 87, 88, 88.5, 90, 120])
def test_gradients_of_a_target_far_below_another_id(distance, precision):
    """e^88 is finite in float32, but times a weight of 88 it is not."""
    hidden = torch.tensor([[1.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[0.0, 3.0], [distance, 3.0], [0.0, 1.0]], requires_grad=True)
    target = torch.tensor([0])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        total, _ = objective_sum(hidden, weight, target, 3)
    ours = torch.autograd.grad(total, (hidden, weight))
    expected = F.cross_entropy(hidden.double() @ weight.double().t(), target)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if precision == "fp32" else {"rtol": 2**-7, "atol": 2**-7}
    for gradient, right in zip(ours, torch.autograd.grad(expected, (hidden, weight)), strict=True):
        torch.testing.assert_close(gradient, right, **tolerance)


def test_a_second_backward_is_an_error():
    hidden, weight, targets = make_inputs(5)
    total, _ = objective_sum(hidden, weight, targets, V)
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="have been used"):
        total.backward()


class Watch(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returned, and the formats of matrix products."""

    def __init__(self):
        super().__init__()
        self.largest, self.product_formats = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.largest = max([self.largest, *(tensor.numel() for tensor in tensors)])
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.product_formats |= {tensor.dtype for tensor in tensors}
        return out


def test_the_full_logits_are_never_there(tiny_model):
    model = tiny_model(vocab_size=V, n_embd=8, block_size=12)
    tokens, targets = torch.randint(V, (2, 10, 12))
    with Watch() as watch:
        model.loss(tokens, targets).backward()
        model.token_nll(tokens, targets)
    activations = 10 * 12 * 4 * 8  # of the MLP
    assert watch.largest == activations
    assert activations < 10 * 12 * V
    with Watch() as watch:
        model(tokens)
    assert watch.largest == 10 * 12 * V  # so the measure would see them


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_z_loss(dtype):
    """Against autograd through the plain formula, in value and gradients; the reported value stays the plain loss."""
    V, z_loss = 40, 0.3
    hidden, weight = torch.randn(23, 8) * 3, torch.randn(V + 3, 8)
    targets = torch.randint(V, (23,))
    targets[::4] = -100
    ours, plain = ([side.to(dtype).float().requires_grad_() for side in (hidden, weight)] for _ in range(2))
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        objective, nll = objective_sum(*ours, targets, V, z_loss)
    logits = (plain[0] @ plain[1].t())[:, :V]
    expected_nll = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
    expected = expected_nll + z_loss * logits.logsumexp(1)[targets != -100].square().sum()
    rtol = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close((objective, nll), (expected, expected_nll), rtol=rtol, atol=1e-4)
    for one, other in zip(torch.autograd.grad(objective, ours), torch.autograd.grad(expected, plain), strict=True):
        assert (one - other).norm() < rtol * other.norm()
