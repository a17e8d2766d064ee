"""The network: ``GPT`` and the variants it is assembled from."""

from gpt2lab.config import IGNORE_INDEX
from gpt2lab.model.gpt import GPT, evaluation_mode
from gpt2lab.model.init import shapes_only
from gpt2lab.model.layout import Layout

__all__ = ["GPT", "IGNORE_INDEX", "Layout", "evaluation_mode", "shapes_only"]
