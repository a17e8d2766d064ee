"""Text from a model."""

from gpt2lab.generation.decoding import generate, generate_stream

__all__ = ["generate", "generate_stream"]
