"""Reads weights from safetensors files, tensor by tensor: memory holds the model and one tensor.

    directory -> files -> {tensor's full name: file, name in it, shape} -> checked against a model -> copied into it

The file must hold every tensor of the model in its shape, and nothing else but known constants. Pickles are not read:
unpickling runs whatever code the file holds.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gpt2lab.config import UserError, one_line
from gpt2lab.files import read_json
from gpt2lab.model import GPT
from gpt2lab.weights.parameter_map import MappedTensor, TensorFormat

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
UNPICKLING = (
    "reading one runs whatever code it holds; where you trust it, convert it with transformers: "
    "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
)
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")


class StoredTensor(NamedTuple):
    """One tensor of a file that is not read yet."""

    path: Path
    name: str
    slices: Any
    """safetensors' handle of it"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return its shape."""
        return tuple(self.slices.get_shape())

    def read(self, rows: int | None = None) -> Tensor:
        """Return the tensor, or its first rows, on the CPU.

        Raises:
            UserError: its dtype is not floating point.
        """
        if self.slices.get_dtype() not in FLOAT_DTYPES:
            raise UserError(
                f"{self.path}: tensor {self.name} is {self.slices.get_dtype()}: expected {' or '.join(FLOAT_DTYPES)}"
            )
        tensor: Tensor = self.slices[:rows] if rows is not None else self.slices[:]
        return tensor


def find_weights(folder: Path) -> list[Path]:
    """Return the safetensors files of a Hugging Face directory, one or several with an index.

    Raises:
        UserError: there are none, or those that the index names are not there.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = folder / INDEX
    if not index.is_file():
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        found = f"found {', '.join(pickles)}, which is a pickle: {UNPICKLING}" if pickles else "found neither"
        raise UserError(f"{folder}: expected {SINGLE} or {INDEX}, {found}")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise UserError(f"{index}: expected a weight_map of tensor names and files")
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError(f"{index} names {name}: {folder / name} is missing")
    return [folder / name for name in sorted(set(weight_map.values()))]


def open_tensors(paths: Iterable[Path], layout: TensorFormat) -> dict[str, StoredTensor]:
    """Return the tensors of the files by full name, without known constants.

    Raises:
        UserError: a file is damaged, or a tensor is there twice.
    """
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        try:
            file: Any = safe_open(path, framework="pt")
            stored = [StoredTensor(path, name, file.get_slice(name)) for name in file.keys()]  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{path} is damaged, or no safetensors file ({one_line(error)}): copy or fetch it again"
            ) from error
        for tensor in stored:
            full_name = layout.full_name(tensor.name)
            if layout.is_buffer(full_name):
                continue
            if full_name in tensors:
                other = tensors[full_name]
                raise UserError(f"{path}: tensor {tensor.name} is also {other.name} in {other.path}: expected it once")
            tensors[full_name] = tensor
    return tensors


def check_tensors(tensors: dict[str, StoredTensor], expected: dict[str, MappedTensor], where: Path) -> None:
    """Raise ``UserError`` unless the tensors are those ``expected``, in name and shape."""
    for name, mapped in expected.items():
        if name not in tensors:
            raise UserError(f"{where}: tensor {name} is missing, it should have shape {list(mapped.shape)}")
    for name, tensor in tensors.items():
        if name not in expected:
            raise UserError(
                f"{tensor.path}: tensor {tensor.name} of shape {list(tensor.shape)} is not part of this model"
            )
        if tensor.shape != expected[name].shape:
            raise UserError(
                f"{tensor.path}: tensor {tensor.name} has shape {list(tensor.shape)}, "
                f"expected {list(expected[name].shape)} by the model's settings"
            )


@torch.no_grad()
def copy_tensors(tensors: dict[str, StoredTensor], model: GPT, mapping: dict[str, MappedTensor]) -> None:
    """Fill ``model`` in place: with the first rows of a tensor that has more than the model, zeros in padding rows."""
    for name, mapped in mapping.items():
        mapped.view.copy_(tensors[name].read(rows=mapped.shape[0]).view(mapped.view.shape))
    for matrix in (model.wte.weight, model.head_PC):
        matrix[model.config.vocab_size :] = 0
