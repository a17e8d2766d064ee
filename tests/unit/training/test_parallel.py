"""What FSDP refuses, before any process is met."""

import pytest
import torch
from torch import nn

from gpt2lab.config import ModelConfig, UserError
from gpt2lab.distributed import World
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime
from gpt2lab.training.parallel import FullySharded


def test_fsdp_refuses_a_parameter_that_is_a_single_number():
    """As a class of one's own may have it; PyTorch raises a ValueError."""
    model = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=4, block_size=4, vocab_size=8))
    model.blocks[0].norm_1.alpha = nn.Parameter(torch.tensor(0.5))
    with pytest.raises(UserError, match=r"^blocks\.0\.norm_1\.alpha: a parameter that is a single number"):
        FullySharded(World(rank=0, size=2)).shard(model, Runtime(torch.device("cpu"), "fp32"))
