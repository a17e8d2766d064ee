"""Text from a model."""

from gpt2lab.generation.generate import generate, generate_stream

__all__ = ["generate", "generate_stream"]
