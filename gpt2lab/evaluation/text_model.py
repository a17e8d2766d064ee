"""What is evaluated: a model with its tokenizer, its origin, and the machine it runs on."""

from dataclasses import dataclass

from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.weights import StoredModel, open_model


@dataclass(frozen=True)
class TextModel:
    """A model that is ready to read text."""

    model: GPT
    tokenizer: Tokenizer
    source: StoredModel
    runtime: Runtime


def open_text_model(where: str | None, runtime: Runtime, key: str = "checkpoint") -> TextModel:
    """The model that ``key=where`` names, on the runtime's device; errors as in ``open_model``."""
    opened = open_model(where, runtime.device, key)
    return TextModel(opened.model, opened.tokenizer, opened.source, runtime)
