"""The formats that ``export.py`` writes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gpt2lab.model import GPT
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.weights.export import save_pretrained
from gpt2lab.weights.gguf_file import save_gguf
from gpt2lab.weights.onnx_file import save_onnx


class ExportFormat(NamedTuple):
    """How one export format is written."""

    save: Callable[[GPT, Tokenizer, Path, str | None, Mapping[str, Any]], str]
    """writes a new folder with the text of a model card and the keys of ``StoredModel.trained_with()``, and returns the
    call that opens the model"""
    library: str
    """the ``library_name`` of the Hugging Face Hub"""


EXPORT_FORMATS = {
    "transformers": ExportFormat(save_pretrained, "transformers"),
    "onnx": ExportFormat(save_onnx, "onnx"),
    "gguf": ExportFormat(save_gguf, "gguf"),
}
