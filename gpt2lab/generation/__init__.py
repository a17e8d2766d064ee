"""Text from a model."""

from gpt2lab.generation.decoding import generate, generate_stream
from gpt2lab.generation.sharing import generate_shared

__all__ = ["generate", "generate_shared", "generate_stream"]
