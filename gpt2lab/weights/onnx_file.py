"""Writes the forward pass as an ONNX graph: token ids [B, T] -> logits [B, T, V], any B and T.

model -> torch.export -> FOLDER/ (model.onnx, model.onnx.data with the weights, the tokenizer's files, README.md)
"""

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from gpt2lab.config import not_installed
from gpt2lab.model import GPT, evaluation_mode
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.weights.new_folder import check_ids, new_folder, write_tokenizer

ONNX = "model.onnx"
EXAMPLE = (2, 3)
"""shape of the tokens that the graph is traced with: sizes other than 1, which the tracer would take for constants"""


def save_onnx(
    model: GPT,
    tokenizer: Tokenizer,
    folder: str | Path,
    card: str | None = None,
    trained_with: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Write ``folder``; return what opens it. The graph takes ``tokens``, int64, and gives ``logits``, float32.

    Args:
        model: on the CPU, any variants.
        tokenizer: that its ids are of.
        folder: a new one.
        card: the text of README.md; None: no such file.
        trained_with: further metadata, ``StoredModel.trained_with()``.

    Raises:
        UserError: a package is missing, or ``folder`` already exists.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise not_installed("format=onnx", package, "'gpt2lab[onnx]'")
    check_ids(model, tokenizer)
    tokens_BT = torch.zeros(EXAMPLE, dtype=torch.int64)
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with new_folder(folder, model, card) as temporary:
        with evaluation_mode(model), torch.no_grad(), _quiet():
            program = torch.onnx.export(
                model,
                (tokens_BT,),
                dynamo=True,
                dynamic_shapes=(any_size,),
                input_names=["tokens"],
                output_names=["logits"],
                verbose=False,
            )
            assert program is not None
            program.model.metadata_props.update({key: json.dumps(value) for key, value in trained_with.items()})
            program.save(temporary / ONNX, external_data=True)
        write_tokenizer(tokenizer, temporary, model.config.block_size)
    return f"onnxruntime.InferenceSession({str(Path(folder) / ONNX)!r})"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notices, which are about packages and operators that no model here uses."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
