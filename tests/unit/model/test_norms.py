"""gpt2lab.model.norms, each against its formula."""

import pytest
import torch

from gpt2lab.config import ModelConfig, NormConfig
from gpt2lab.model.norms import NORMS

EPS = 0.1  # large enough that a forgotten one shows


def layernorm(x, weight, bias=0.0):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * weight + bias


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
