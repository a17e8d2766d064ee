"""The network: ``GPT`` and the variants it is assembled from."""

from gpt2lab.model.gpt import GPT, IGNORE_INDEX, evaluation_mode

__all__ = ["GPT", "IGNORE_INDEX", "evaluation_mode"]
