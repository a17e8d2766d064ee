"""gpt2lab.model.norms: each norm against its formula, and the gradient and dtypes of RMSNorm."""

import pytest
import torch

from gpt2lab.config import ModelConfig, NormConfig
from gpt2lab.model.norms import NORMS

EPS = 0.1  # large enough that a forgotten one shows


def layernorm(x, weight, bias=0.0):
    centered = x - x.mean(-1, keepdim=True)
    return centered / (centered.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * weight + bias


def rmsnorm(x, weight):
    return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * weight


FORMULAS = {
    "layernorm": layernorm,
    "rmsnorm": rmsnorm,
}
"""name: the formula, a function of the input and of the parameters by their names"""


def test_every_norm_has_a_formula_here():
    assert set(FORMULAS) == set(NORMS)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name, bias):
    norm = NORMS[name](16, ModelConfig(bias=bias, norm=NormConfig(name, eps=EPS)))
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    parameters = dict(norm.named_parameters())
    assert bias or "bias" not in parameters
    x = torch.randn(4, 5, 16) * 3 + 1
    expected = FORMULAS[name](x, **parameters)
    torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-5)


def make_rmsnorm(dim, dtype=torch.float32):
    norm = NORMS["rmsnorm"](dim, ModelConfig(norm=NormConfig("rmsnorm", eps=EPS))).to(dtype)
    torch.nn.init.normal_(norm.weight)
    return norm


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 4, 7)])
def test_rmsnorm_gradient_is_the_numerical_one(shape):
    norm = make_rmsnorm(7, torch.float64)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, weight: torch.func.functional_call(norm, {"weight": weight}, x),
                                    (x, norm.weight))  # fmt: skip


def test_rmsnorm_is_that_of_torch_in_value_and_gradient():
    norm = make_rmsnorm(16)
    x = torch.randn(2, 16, 5).transpose(1, 2).requires_grad_()  # not contiguous, as queries and keys are
    g = torch.randn(2, 5, 16)
    outputs = (norm(x), torch.nn.functional.rms_norm(x, (16,), norm.weight, EPS))
    torch.testing.assert_close(*outputs)
    ours, theirs = (torch.autograd.grad(output, (x, norm.weight), g) for output in outputs)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["layernorm", "rmsnorm"])
def test_norm_of_bfloat16_with_float32_weights_rounds_once(name, recwarn):
    """Queries and keys under autocast; torch warns where a mix of dtypes disables its fused kernel."""
    norm = NORMS[name](16, ModelConfig(norm=NormConfig(name, eps=EPS)))
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 16, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, norm(x.float()).bfloat16(), rtol=8e-3, atol=0)
    assert not [warning for warning in recwarn if "fused" in str(warning.message)]


@pytest.mark.parametrize("name", ["layernorm", "rmsnorm"])
def test_norm_of_float32_with_bfloat16_weights_computes_in_float32(name):
    """The residual stream in a block whose weights FSDP gathers as bf16."""
    norm = NORMS[name](16, ModelConfig(norm=NormConfig(name, eps=EPS))).bfloat16()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert y.dtype == torch.float32
    exact = norm.float()(x)
    torch.testing.assert_close(y, exact)
    torch.testing.assert_close(grad, torch.autograd.grad(exact.sum(), x)[0])
