"""Text from a model."""

from gpt2lab.generation.generate import generate

__all__ = ["generate"]
