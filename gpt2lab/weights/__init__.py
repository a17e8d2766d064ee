"""Models out of files and into them: gpt2lab's own runs, Hugging Face directories, names on the Hub."""

from gpt2lab.weights.export import check_free, save_pretrained
from gpt2lab.weights.native import find_checkpoint
from gpt2lab.weights.sources import OpenModel, Source, load_pretrained, load_weights, open_model

__all__ = [
    "OpenModel",
    "Source",
    "check_free",
    "find_checkpoint",
    "load_pretrained",
    "load_weights",
    "open_model",
    "save_pretrained",
]
