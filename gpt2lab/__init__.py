"""gpt2lab: train, ablate and evaluate GPT-2-style language models.

>>> from gpt2lab import generate, load_model, perplexity
>>> model = load_model("gpt2")
>>> generate(model, "The meaning of life is", temperature=0.8)
>>> perplexity(model, "It was the best of times").bits_per_byte
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt2lab.api import generate, load_model, load_tokenizer, perplexity
    from gpt2lab.cli.compose import compose_config

__version__ = "0.1.0"

__all__ = ["compose_config", "generate", "load_model", "load_tokenizer", "perplexity"]

_MODULE_OF = {
    "compose_config": "gpt2lab.cli.compose",
    "generate": "gpt2lab.api",
    "load_model": "gpt2lab.api",
    "load_tokenizer": "gpt2lab.api",
    "perplexity": "gpt2lab.api",
}


def __getattr__(name: str) -> Any:
    """Import a function when it is first asked for, so that ``import gpt2lab`` does not import torch."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'gpt2lab' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
