"""AdamW and Muon against hand computations and PyTorch, and their state."""

import math

import numpy as np
import pytest
import torch

from gpt2lab.config import ModelConfig, OptimizerConfig, UserError
from gpt2lab.model import GPT
from gpt2lab.training.muon import Muon
from gpt2lab.training.optimizer import Optimizers, adamw, decay_groups, muon_and_adamw

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 257}


@pytest.mark.parametrize("tie_head", [True, False])
def test_decay_groups(tie_head):
    model = GPT(ModelConfig(**TINY, tie_head=tie_head))
    decayed, plain = decay_groups(model.named_parameters(), 0.1)
    names = [name for group in (decayed, plain) for name, _ in group["params"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert ("lm_head.weight" in names) is not tie_head
    matrices = {"c_attn", "c_proj", "c_fc", "wte", "wpe", "lm_head"}
    assert {name.split(".")[-2] for name, _ in decayed["params"]} == matrices - ({"lm_head"} if tie_head else set())
    assert all(parameter.ndim == 1 for _, parameter in plain["params"])
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_adamw_by_hand():
    config = OptimizerConfig(lr=0.1, beta1=0.8, beta2=0.9, eps=0.05, weight_decay=0.5)
    model = torch.nn.Linear(2, 1)
    weight, bias = model.weight.detach().double().numpy().copy(), model.bias.detach().double().numpy().copy()
    optimizer = adamw(model, config, lr=0.1)["adamw"]
    gradients = [np.array([[1.0, -2.0]]), np.array([[0.5, 3.0]])]
    m = v = np.zeros((1, 2))
    for step, gradient in enumerate(gradients, start=1):
        model.weight.grad, model.bias.grad = torch.tensor(gradient).float(), torch.zeros(1)
        optimizer.step()
        m, v = 0.8 * m + 0.2 * gradient, 0.9 * v + 0.1 * gradient**2
        weight = weight * (1 - 0.1 * 0.5)
        weight = weight - 0.1 * (m / (1 - 0.8**step)) / (np.sqrt(v / (1 - 0.9**step)) + 0.05)
    assert model.weight.detach().numpy() == pytest.approx(weight, rel=1e-5)
    assert model.bias.detach().numpy() == pytest.approx(bias)  # no gradient, no decay


def test_moments_are_matched_by_name():
    one = Optimizers(adamw(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), OptimizerConfig(), 0.1))
    state = one.state_dict()
    one.load_state_dict(state)
    state["adamw"]["param_groups"][0]["param_names"].reverse()
    with pytest.raises(UserError, match="1.weight against 0.weight"):
        one.load_state_dict(state)


def test_a_resumed_optimizer_keeps_the_settings_of_its_own_run():
    saved, own = (
        Optimizers(adamw(torch.nn.Linear(2, 2), OptimizerConfig(weight_decay=decay, beta2=beta2), lr))
        for decay, beta2, lr in ((0.1, 0.95, 1e-3), (0.3, 0.99, 2e-3))
    )
    own.load_state_dict(saved.state_dict())
    decayed, plain = own.groups
    assert (decayed["weight_decay"], decayed["betas"], decayed["lr"]) == (0.3, (0.9, 0.99), 2e-3)
    assert plain["weight_decay"] == 0


def orthogonalised(matrix):
    """Five Newton-Schulz steps with Muon's coefficients, in float64 numpy."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
        polynomial = -4.775 * gram + 2.0315 * gram @ gram
        x = 3.4445 * x + (polynomial @ x if x.shape[0] <= x.shape[1] else x @ polynomial)
    return x


def test_muon_by_hand():
    model = GPT(ModelConfig(**TINY))
    config = OptimizerConfig(name="muon", momentum=0.9, weight_decay=0.5)
    optimizers = Optimizers(muon_and_adamw(model, config, lr=0.1))
    named = dict(model.named_parameters())
    blocks = [
        name
        for name in named
        if name.startswith("blocks.") and name.endswith(("c_attn.weight", "c_fc.weight", "c_proj.weight"))
    ]
    in_part = {
        part: [name for group in optimizer.state_dict()["param_groups"] for name in group["param_names"]]
        for part, optimizer in optimizers.parts.items()
    }
    assert in_part["muon"] == blocks
    assert sorted(in_part["adamw"] + blocks) == sorted(named)
    weight = named["blocks.0.mlp.c_fc.weight"]
    expected = weight.detach().double().numpy().copy()
    momentum = np.zeros_like(expected)
    for _ in range(2):
        gradient = np.random.default_rng(0).normal(size=expected.shape)
        for parameter in named.values():
            parameter.grad = torch.zeros_like(parameter)
        weight.grad = torch.tensor(gradient).float()
        optimizers.set_lr(0.5)
        optimizers.step()
        momentum = 0.9 * momentum + 0.1 * gradient  # PyTorch's running mean, which points where the paper's sum does
        update = orthogonalised(0.1 * gradient + 0.9 * momentum)
        expected = expected * (1 - 0.05 * 0.5) - 0.05 * 0.2 * math.sqrt(max(expected.shape)) * update
    torch.testing.assert_close(weight.detach().double(), torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_muon_is_that_of_torch(dtype):
    shapes = [(8, 8), (8, 24), (24, 8), (8, 24)]
    starts = [torch.randn(shape) for shape in shapes]
    own, theirs = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    optimizers = (
        Muon(own, 0.1, 0.5, 0.9, dtype),
        torch.optim.Muon(theirs, lr=0.1, weight_decay=0.5, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for a, b in zip(own, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(own, theirs, strict=True):  # theirs is in bfloat16
        torch.testing.assert_close(a, b, rtol=0, atol=3 * 0.1 * 0.2 * max(a.shape) ** 0.5 * 0.02)


def test_another_optimizers_state_is_refused():
    model = GPT(ModelConfig(**TINY))
    saved, own = (Optimizers(make(model, OptimizerConfig(), 0.1)) for make in (adamw, muon_and_adamw))
    with pytest.raises(UserError, match="state is of adamw, this run's optimizer is muon and adamw.*init_from="):
        own.load_state_dict(saved.state_dict())
