"""Tiny models, every combination of variants, and the CPU to run them on."""

import itertools

import pytest
import torch

from gpt2lab.config import MLPConfig, ModelConfig, NormConfig, PositionsConfig
from gpt2lab.model import GPT
from gpt2lab.model.mlp import MLPS
from gpt2lab.model.norms import NORMS
from gpt2lab.model.positions import POSITIONS
from gpt2lab.runtime import Runtime

torch.set_num_threads(1)  # at these sizes a second thread costs more than it gives


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in every run of a test."""
    torch.manual_seed(0)


VARIANTS = [
    dict(zip(("positions", "norm", "mlp"), names, strict=True)) for names in itertools.product(POSITIONS, NORMS, MLPS)
]


@pytest.fixture(params=VARIANTS, ids=lambda variant: "-".join(variant.values()))
def variant(request):
    """One of all combinations of the model's variants, as arguments of ``tiny_model``."""
    return request.param


@pytest.fixture
def tiny_model():
    """A maker of models of some thousand numbers, in evaluation mode.

    All weights are random, biases and gains too, and large: a term that is left out then changes every output.
    """

    def make(*, seed=0, positions="learned", norm="layernorm", mlp="gelu", **shape):
        config = ModelConfig(
            **{"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12, "vocab_size": 31} | shape,
            positions=PositionsConfig(name=positions),
            norm=NormConfig(name=norm),
            mlp=MLPConfig(name=mlp),
        )
        model = GPT(config)
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        return model.eval()

    return make


@pytest.fixture
def cpu():
    """The CPU in float32."""
    return Runtime(torch.device("cpu"), "fp32")
