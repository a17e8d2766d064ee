"""Variants that are named by module and class."""

import pytest
from torch import nn

from gpt2lab.config import ModelConfig, UserError
from gpt2lab.config.model import MLPConfig, NormConfig, PositionsConfig
from gpt2lab.model import GPT
from gpt2lab.model.norms import NORMS, RMSNorm
from gpt2lab.model.positions import Positions, Rope
from gpt2lab.model.variants import find_variant

TINY = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 257}


def test_module_and_class_name_the_variant_of_the_registry():
    own = GPT(
        ModelConfig(
            **TINY,
            norm=NormConfig("gpt2lab.model.norms:RMSNorm"),
            mlp=MLPConfig("gpt2lab.model.mlp:SwiGLUMLP"),
            positions=PositionsConfig("gpt2lab.model.positions:Rope"),
        )
    )
    of_registry = GPT(
        ModelConfig(**TINY, norm=NormConfig("rmsnorm"), mlp=MLPConfig("swiglu"), positions=PositionsConfig("rope"))
    )
    assert [str(module) for module in own.modules()] == [str(module) for module in of_registry.modules()]
    assert isinstance(own.positions, Rope)
    assert find_variant(NORMS, "rmsnorm", "model.norm.name") is RMSNorm


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rms", "model.norm.name=rms: expected one of layernorm, rmsnorm"),
        ("no_such_module:Norm", "there is no module no_such_module on Python's path.*PYTHONPATH=FOLDER"),
        ("gpt2lab.model.norms:Nothing", "expected MODULE:CLASS with a class in it"),
        ("os:system", r"expected a class derived from torch\.nn\.modules\.module\.Module"),
        ("os:", "expected MODULE:CLASS"),
        (":Norm", "expected MODULE:CLASS"),
    ],
)
def test_what_is_no_variant_is_one_line(name, message):
    with pytest.raises(UserError, match=message):
        find_variant(NORMS, name, "model.norm.name")


def test_a_position_scheme_must_be_one():
    with pytest.raises(UserError, match=r"expected a class derived from gpt2lab\.model\.positions\.Positions"):
        find_variant({}, "torch.nn:Linear", "model.positions.name", Positions)
    assert issubclass(find_variant({}, "torch.nn:Linear", "model.norm.name"), nn.Module)
