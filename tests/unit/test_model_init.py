"""gpt2lab.model.init: spreads by kind of weight, the first loss, and what the draw depends on."""

import math

import pytest
import torch
from torch import nn

from gpt2lab.config import ModelConfig, NormConfig, PositionsConfig
from gpt2lab.model.init import init_weights
from gpt2lab.training.build import build_model

EXPECTED_STD = {
    "wte.weight": 0.02,
    "wpe.weight": 0.02,
    "c_attn.weight": 0.02,
    "c_fc.weight": 0.02,
    "lm_head.weight": 0.02,
    "c_proj.weight": 0.02 / math.sqrt(2 * 8),
}


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_spread_of_each_kind_of_weight(cpu, norm):
    config = ModelConfig(
        n_layer=8, n_head=4, n_embd=64, block_size=256, vocab_size=500, tie_head=False, norm=NormConfig(name=norm)
    )
    for name, parameter in build_model(config, 0, cpu).named_parameters():
        kind = ".".join(name.split(".")[-2:])
        if kind in EXPECTED_STD:
            assert abs(parameter.mean()) < 5 * EXPECTED_STD[kind] / math.sqrt(parameter.numel()), name
            assert parameter.std().item() == pytest.approx(EXPECTED_STD[kind], rel=0.05), name
        else:
            assert parameter.ndim == 1
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_first_loss_is_near_that_of_a_uniform_guess(cpu, positions):
    config = ModelConfig(
        n_layer=4, n_head=4, n_embd=128, block_size=64, vocab_size=5000, positions=PositionsConfig(name=positions)
    )
    tokens, targets = torch.randint(5000, (2, 8, 64))
    loss = build_model(config, 3, cpu).loss(tokens, targets)
    assert loss.item() == pytest.approx(math.log(5000), abs=0.2)


def test_the_draw_depends_on_the_seed_alone(cpu):
    config = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=20)
    first = build_model(config, 5, cpu).state_dict()
    torch.manual_seed(99)
    state_before = torch.get_rng_state()
    again, other = (build_model(config, seed, cpu).state_dict() for seed in (5, 6))
    assert torch.equal(torch.get_rng_state(), state_before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].ndim == 2)


def test_a_parameter_of_unknown_kind_is_not_left_unset():
    module = nn.Module()
    module.kernel = nn.Parameter(torch.empty(2, 2, 2))
    with pytest.raises(TypeError, match="kernel"):
        init_weights(module, 1)
