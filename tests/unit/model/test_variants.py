"""Variants that are named by module and class."""

import os
import subprocess
import sys
from importlib import import_module

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


class WithoutConfig(nn.Module):
    """A norm with another constructor."""

    def __init__(self, dim):
        super().__init__()


def test_another_constructor_is_one_line():
    with pytest.raises(UserError) as error:
        find_variant(NORMS, f"{__name__}:WithoutConfig", "model.norm.name")
    expected = "its constructor takes (dim); expected one that can be called with (dim, config), as those of layernorm"
    assert expected in str(error.value)


def test_a_position_scheme_must_be_one():
    with pytest.raises(UserError, match=r"expected a class derived from gpt2lab\.model\.positions\.Positions"):
        find_variant(NORMS, "torch.nn:Linear", "model.positions.name", Positions)
    assert issubclass(find_variant(NORMS, "torch.nn:Linear", "model.norm.name"), nn.Module)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """The name of a module in the working folder, which no other test imports."""
    name = f"variants_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("from torch import nn\nclass Norm(nn.Module): pass\n")
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("first", ["", None], ids=["notebook", "script"])
def test_the_working_folder_is_searched_only_if_it_is_named(first, own_module, tmp_path, monkeypatch):
    implicit = str(tmp_path) if first is None else first
    monkeypatch.setattr(sys, "path", [implicit, *sys.path])
    before = list(sys.path)
    with pytest.raises(UserError, match=rf"no module {own_module} .*PYTHONPATH=FOLDER.*import {own_module} first"):
        find_variant(NORMS, f"{own_module}:Norm", "model.norm.name")
    assert sys.path == before
    sys.path.insert(1, str(tmp_path))  # where PYTHONPATH is
    assert find_variant(NORMS, f"{own_module}:Norm", "model.norm.name").__module__ == own_module


def test_a_module_that_is_imported_is_found(own_module, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    imported = import_module(own_module)
    assert find_variant(NORMS, f"{own_module}:Norm", "model.norm.name") is imported.Norm


def test_a_name_in_a_run_runs_nothing_of_the_working_folder(own_module, tmp_path):
    (tmp_path / f"{own_module}.py").write_text("print('run')")
    program = f"from gpt2lab.model.variants import find_variant; find_variant({{}}, '{own_module}:Norm', 'norm')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout == ""
    assert f"there is no module {own_module}" in result.stderr
