"""Reads and writes models: gpt2lab's own runs, Hugging Face directories, names on the Hub."""

from gpt2lab.weights.checkpoint_format import find_checkpoint
from gpt2lab.weights.export import save_pretrained
from gpt2lab.weights.export_formats import EXPORT_FORMATS
from gpt2lab.weights.loading import LoadedModel, load_pretrained, load_weights, open_model
from gpt2lab.weights.new_folder import check_free
from gpt2lab.weights.stored_model import StoredModel, TrainedOn, find_stored_model

__all__ = [
    "EXPORT_FORMATS",
    "LoadedModel",
    "StoredModel",
    "TrainedOn",
    "check_free",
    "find_checkpoint",
    "find_stored_model",
    "load_pretrained",
    "load_weights",
    "open_model",
    "save_pretrained",
]
