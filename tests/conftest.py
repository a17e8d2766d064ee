"""Tiny models, every combination of variants, and the CPU to run them on."""

import gc
import itertools
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from gpt2lab.config import MLPConfig, ModelConfig, NormConfig, PositionsConfig
from gpt2lab.distributed import World
from gpt2lab.model import GPT
from gpt2lab.model.mlp import MLPS
from gpt2lab.model.norms import NORMS
from gpt2lab.model.positions import POSITIONS
from gpt2lab.runtime import Runtime

torch.set_num_threads(1)  # at these sizes a second thread costs more than it gives


def pytest_collection_finish(session):
    """The garbage collector need not look at the objects of torch again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in every run of a test."""
    torch.manual_seed(0)


def as_processes(size, function):
    """``function(world)`` of each of ``size`` threads, which are to each other what the processes of a run are."""
    barrier = threading.Barrier(size, timeout=60)
    given = [None] * size

    class Thread(World):
        def sum(self, values):
            given[self.rank] = values.clone()
            barrier.wait()
            values.copy_(torch.stack(given).sum(0))
            barrier.wait()
            return values

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(lambda rank: function(Thread(rank, size)), range(size)))


def imported_by(program, *names):
    """Which of the modules a new Python process has imported after a program, which may print nothing."""
    end = f"; import sys; print(*sorted({set(names)} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", program + end], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.split()


VARIANTS = [
    dict(zip(("positions", "norm", "mlp"), names, strict=True)) for names in itertools.product(POSITIONS, NORMS, MLPS)
]


@pytest.fixture(params=VARIANTS, ids=lambda variant: "-".join(variant.values()))
def variant(request):
    """One of all combinations of the model's variants, as arguments of ``tiny_model``."""
    return request.param


OPTIONS = [
    {"bias": False, "tie_head": False},
    {"n_head": 4, "n_kv_head": 2},
    {"n_head": 4, "n_kv_head": 1, "qk_norm": True, "norm": "rmsnorm"},
    {"qk_norm": True, "vocab_multiple_of": 8},
    {"bias": False, "n_kv_head": 1, "qk_norm": True, "vocab_multiple_of": 32, "tie_head": False, "mlp": "swiglu"},
]


@pytest.fixture(params=OPTIONS, ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()))
def options(request):
    """Settings beside the variants, as arguments of ``tiny_model``."""
    return request.param


@pytest.fixture(params=POSITIONS)
def positions(request):
    """One of the position schemes' names."""
    return request.param


@pytest.fixture
def tiny_model():
    """``make_tiny_model``."""
    return make_tiny_model


def make_tiny_model(
    *, seed=0, positions="learned", norm="layernorm", mlp="gelu", rope_fraction=1.0, hidden_dim=None, **shape
):
    """A model of some thousand numbers, in evaluation mode.

    All weights are random, biases and gains too, and large: a term that is left out then changes every output.
    """
    config = ModelConfig(
        **{"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12, "vocab_size": 31} | shape,
        positions=PositionsConfig(name=positions, rope_fraction=rope_fraction),
        norm=NormConfig(name=norm),
        mlp=MLPConfig(name=mlp, hidden_dim=hidden_dim),
    )
    model = GPT(config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model.eval()


@pytest.fixture
def cpu():
    """The CPU in float32."""
    return Runtime(torch.device("cpu"), "fp32")
