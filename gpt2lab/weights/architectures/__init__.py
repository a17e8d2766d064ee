"""Models of Hugging Face: what ``transformers`` calls our settings and our parameters, a module per architecture.

    reading: config.json -> ``model_config`` -> ModelConfig -> GPT, filled through its ``parameter_map``
    writing: GPT -> ``config_json`` and ``parameter_map``

A new architecture is a class in a module here and an entry of ``ARCHITECTURES``.
"""

from gpt2lab.weights.architectures.base import Architecture
from gpt2lab.weights.architectures.gpt2 import GPT2
from gpt2lab.weights.architectures.gpt_neox import GPTNeoX
from gpt2lab.weights.architectures.llama import Llama

ARCHITECTURES: dict[str, Architecture] = {"gpt2": GPT2(), "gpt_neox": GPTNeoX(), "llama": Llama()}
"""by the ``model_type`` of config.json"""

__all__ = ["ARCHITECTURES", "Architecture"]
