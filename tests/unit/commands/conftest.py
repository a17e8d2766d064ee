"""The model that the commands are tried on."""

import pytest
import torch

from tests import hugging_face, tokenizer_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model with a tokenizer of its own."""
    folder = tokenizer_files.smollm(tmp_path_factory.mktemp("model"))
    torch.manual_seed(0)
    hugging_face.llama(vocab_size=400, max_position_embeddings=64).save_pretrained(folder)
    return folder
