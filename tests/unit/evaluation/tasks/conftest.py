"""A random model with a short context, and the settings of tasks in a folder."""

from types import SimpleNamespace

import pytest
import torch

from gpt2lab.config import EvalConfig, ModelConfig, TasksConfig
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.model import GPT
from gpt2lab.tokenizers import load_tokenizer

CONTEXT = 20
BYTES = load_tokenizer("bytes")


@pytest.fixture
def loaded(cpu):
    torch.manual_seed(0)
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=CONTEXT, vocab_size=257, dropout=0.3))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    source = SimpleNamespace(context=CONTEXT, origin={"checkpoint": "openai-community/gpt2"})
    return TextModel(model, BYTES, source, cpu)


def settings_of(folder, **settings):
    return EvalConfig(parts=["tasks"], tasks=TasksConfig(folder=str(folder), **settings))
