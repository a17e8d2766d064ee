"""What is evaluated: a model with the tokenizer it reads, where it came from, and the machine it runs on."""

from dataclasses import dataclass

from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.weights import StoredModel


@dataclass(frozen=True)
class Subject:
    """A checkpoint, opened."""

    model: GPT
    tokenizer: Tokenizer
    source: StoredModel
    runtime: Runtime
