"""gpt2lab.model.init: spreads by kind of weight, the first loss, and what the draw depends on."""

import itertools
import math
import re

import pytest
import torch
from torch import nn

from gpt2lab.config import MLPConfig, ModelConfig, NormConfig, PositionsConfig, UserError
from gpt2lab.model import GPT
from gpt2lab.model.init import init_weights, shapes_only
from gpt2lab.model.mlp import MLPS
from gpt2lab.model.norms import NORMS
from gpt2lab.model.positions import POSITIONS
from gpt2lab.training.build import build_model
from tests.conftest import imported_by

EXPECTED_STD = {
    "wte.weight": 0.02,
    "wpe.weight": 0.01,
    "c_attn.weight": 0.02,
    "c_fc.weight": 0.02,
    "c_gate.weight": 0.02,
    "lm_head.weight": 0.02,
    "c_proj.weight": 0.02 / math.sqrt(2 * 8),
}


VECTORS = {"bias": 0.0, "weight": 1.0}
"""by the last part of the name"""


@pytest.mark.parametrize(
    ("positions", "mlp"), [(name, "gelu") for name in POSITIONS] + [("learned", name) for name in MLPS]
)
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_spread_of_each_kind_of_weight(cpu, positions, norm, mlp):
    config = ModelConfig(
        n_layer=8, n_head=4, n_kv_head=2, n_embd=64, block_size=256, vocab_size=500, tie_head=False, qk_norm=True,
        positions=PositionsConfig(positions), norm=NormConfig(norm), mlp=MLPConfig(mlp),
    )  # fmt: skip
    for name, parameter in build_model(config, 0, cpu).named_parameters():
        kind = ".".join(name.split(".")[-2:])
        if parameter.ndim == 2:
            std = EXPECTED_STD[kind]
            assert abs(parameter.mean()) < 5 * std / math.sqrt(parameter.numel()), name
            assert parameter.std().item() == pytest.approx(std, rel=0.05), name
        else:
            assert (parameter == VECTORS[name.split(".")[-1]]).all(), name


def first_loss_excess(config, cpu):
    tokens, targets = torch.randint(config.vocab_size, (2, 2, config.block_size))
    return build_model(config, 3, cpu).token_nll(tokens, targets).mean().item() - math.log(config.vocab_size)


def test_first_loss_is_near_that_of_a_uniform_guess(cpu, variant):
    names = {"positions": PositionsConfig, "norm": NormConfig, "mlp": MLPConfig}
    config = ModelConfig(
        n_layer=2, n_head=4, n_embd=128, block_size=64, vocab_size=5000,
        **{key: names[key](name) for key, name in variant.items()},
    )  # fmt: skip
    assert abs(first_loss_excess(config, cpu)) < 0.2


def test_first_loss_at_the_width_and_vocabulary_of_gpt2(cpu, positions):
    """A tied head is the harder case: what is left of a token in the residual stream speaks for the token itself."""
    config = ModelConfig(n_layer=2, block_size=32, positions=PositionsConfig(positions))
    assert abs(first_loss_excess(config, cpu)) < 0.2


def test_the_draw_depends_on_the_seed_alone(cpu):
    config = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=20)
    first = build_model(config, 5, cpu).state_dict()
    torch.manual_seed(99)
    state_before = torch.get_rng_state()
    again, other = (build_model(config, seed, cpu).state_dict() for seed in (5, 6))
    assert torch.equal(torch.get_rng_state(), state_before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].ndim == 2)


SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8, "vocab_size": 20}
VARIED = {
    "positions": (PositionsConfig, POSITIONS),
    "norm": (NormConfig, NORMS),
    "mlp": (MLPConfig, MLPS),
    "tie_head": (bool, [True, ""]),
    "qk_norm": (bool, [True, ""]),
    "bias": (bool, [True, ""]),
}


@pytest.mark.parametrize(
    ("part", "first", "second"),
    [(part, *pair) for part, (_, names) in VARIED.items() for pair in itertools.combinations(names, 2)],
)
def test_equal_initial_tensors_of_every_pair_of_variants(cpu, part, first, second):
    """All tensors that two variants have in common, by name and shape, are equal; only those of the part differ."""
    kind = VARIED[part][0]
    one, other = (build_model(ModelConfig(**SMALL, **{part: kind(v)}), 5, cpu).state_dict() for v in (first, second))
    common = [name for name in one if name in other and one[name].shape == other[name].shape]
    equal = [name for name in common if torch.equal(one[name], other[name])]
    assert len(equal) == len(common)
    belongs = {
        "positions": r"positions\.", "norm": r"norm_|_norm", "mlp": r"\.mlp\.", "tie_head": "lm_head",
        "qk_norm": r"[qk]_norm", "bias": r"\.bias$",
    }[part]  # fmt: skip
    others = [name for name in one if not re.search(belongs, name)]
    assert set(others) <= set(equal)
    assert len(others) >= 10


def test_models_that_differ_in_one_part_start_from_equal_weights_elsewhere(cpu):
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8, "vocab_size": 20}
    plain = build_model(ModelConfig(**shape), 5, cpu).state_dict()
    variant = build_model(
        ModelConfig(**shape, positions=PositionsConfig("rope"), norm=NormConfig("rmsnorm")), 5, cpu
    ).state_dict()
    shared = plain.keys() & variant.keys()
    assert plain.keys() - variant.keys() == {
        "positions.wpe.weight", "norm_f.bias", *(f"blocks.{i}.norm_{n}.bias" for i in (0, 1) for n in (1, 2)),
    }  # fmt: skip
    assert all(torch.equal(plain[name], variant[name]) for name in shared)
    matrices = [value for name, value in plain.items() if value.ndim == 2 and value.shape == plain["wte.weight"].shape]
    assert len({tuple(matrix.flatten().tolist()) for matrix in matrices}) == len(matrices)


def test_a_parameter_of_unknown_kind_is_not_left_unset():
    module = nn.Module()
    module.kernel = nn.Parameter(torch.empty(2, 2, 2))
    with pytest.raises(UserError, match=r'kernel: no initial value .* type initial_values = \{"kernel": 1.0\} in'):
        init_weights(module, 1)


def test_a_module_names_what_its_own_parameters_start_from():
    class Scaled(nn.Linear):
        initial_values = {"scale": 0.25, "bias": 3.0}  # noqa: RUF012

        def __init__(self):
            super().__init__(2, 2)
            self.scale = nn.Parameter(torch.empty(1, 1, 1))

    module = nn.Sequential(Scaled(), nn.Linear(2, 2))
    init_weights(module, 1)
    assert module[0].scale.item() == 0.25
    assert module[0].bias.tolist() == [3.0, 3.0]
    assert module[1].bias.tolist() == [0.0, 0.0]
    assert 0 < module[0].weight.std() < 0.2


def test_shapes_alone_are_those_of_the_model_and_need_no_compiler(variant, tiny_model):
    with shapes_only():
        shapes = GPT(tiny_model(**variant).config)
    assert {name: p.shape for name, p in shapes.named_parameters()} == {
        name: p.shape for name, p in tiny_model(**variant).named_parameters()
    }
    assert all(p.is_meta for p in shapes.parameters())


def test_neither_shapes_nor_a_runtime_import_the_compiler():
    """It takes a second of each ``eval.py`` and ``sample.py``."""
    program = (
        "from gpt2lab.config import ModelConfig, RuntimeConfig; from gpt2lab.runtime import open_runtime\n"
        "from gpt2lab.model import GPT, shapes_only\n"
        "with shapes_only(): GPT(ModelConfig(tie_head=False))\n"
        "open_runtime(RuntimeConfig(device='cpu'))"
    )
    assert imported_by(program, "torch._dynamo") == []


class Buffered(nn.Module):
    """A norm with a buffer, as most code that is published has them."""

    persistent, make = False, staticmethod(torch.arange)

    def __init__(self, dim, config):
        super().__init__()
        self.register_buffer("scale_C", 1 + self.make(dim), persistent=self.persistent)

    def forward(self, x):
        return x * self.scale_C


@pytest.mark.parametrize("make", [torch.arange, torch.rand])
def test_buffers_have_the_same_values_in_training_and_when_loaded(monkeypatch, cpu, make):
    monkeypatch.setitem(NORMS, "buffered", type("Norm", (Buffered,), {"make": staticmethod(make)}))
    config = ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=4, vocab_size=9, norm=NormConfig("buffered"))
    models = [build_model(config, seed, cpu) for seed in (1, 1, 2)]
    buffers = [dict(model.named_buffers()) for model in models]
    assert buffers[0].keys() == {"blocks.0.norm_1.scale_C", "blocks.0.norm_2.scale_C", "blocks.1.norm_1.scale_C",
                                 "blocks.1.norm_2.scale_C", "norm_f.scale_C"}  # fmt: skip
    if make is torch.arange:
        assert all(torch.equal(buffer, 1 + torch.arange(8)) for buffer in buffers[0].values())
    for name, buffer in buffers[0].items():
        assert torch.equal(buffer, buffers[1][name]), name
        assert torch.equal(buffer, buffers[2][name]), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"persistent": True}, "persistent=False"), ({"make": staticmethod(torch.empty)}, "no values")],
)
def test_a_buffer_that_would_be_lost_is_an_error(monkeypatch, cpu, settings, message):
    monkeypatch.setitem(NORMS, "buffered", type("Norm", (Buffered,), settings))
    with pytest.raises(UserError, match=message):
        build_model(ModelConfig(n_layer=1, n_head=2, n_embd=8, vocab_size=9, norm=NormConfig("buffered")), 1, cpu)
