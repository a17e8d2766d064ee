"""The state of a part as a file that holds no code.

A part whose state is a flat dict of tensors (the model) becomes ``NAME.safetensors``. Any other becomes ``NAME.pt``,
which holds tensors and plain values only, so that ``torch.load(weights_only=True)`` reads it.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt2lab.checkpoint.manifest import IncompleteCheckpointError
from gpt2lab.config import UserError, one_line
from gpt2lab.files import apply_umask, sync


class Stateful(Protocol):
    """Anything that can be saved: its state consists of tensors and plain values."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Restore a state."""
        ...


def write_part(folder: Path, name: str, state: dict[str, Any]) -> Path:
    """Write the state of one part and wait until it is on the disk; return the file."""
    if all(isinstance(value, Tensor) for value in state.values()):
        path = folder / f"{name}.safetensors"
        save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, path)
        apply_umask(path)
    else:
        path = folder / f"{name}.pt"
        torch.save(state, path)
    with path.open("rb") as file:
        sync(file)
    return path


def read_part(checkpoint: Path, manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the state of one part.

    Its tensors are pages of the file, which processes of one machine share: each would hold the whole state otherwise.
    A part that is loaded copies what it keeps, since the file may be deleted.

    Raises:
        UserError: the checkpoint has no such part, or its file does not parse.
    """
    path = checkpoint / f"{name}.pt"
    try:
        if f"{name}.safetensors" in manifest["files"]:
            return dict(load_file(checkpoint / f"{name}.safetensors"))
        if f"{name}.pt" in manifest["files"]:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            return state
    except (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise IncompleteCheckpointError(f"{checkpoint}: {name} cannot be read: {one_line(error)}") from error
    raise UserError(f"{checkpoint} holds {', '.join(manifest['files'])}: no {name} to load")


def tensor_bytes(state: Any) -> int:
    """Return the bytes of all tensors in a state, however nested."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(tensor_bytes, state.values()))
    return sum(map(tensor_bytes, state)) if isinstance(state, list | tuple) else 0


def copy_to_cpu(state: Any) -> Any:
    """Return a state whose tensors are copies on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: copy_to_cpu(value) for key, value in state.items()}
    return [copy_to_cpu(value) for value in state] if isinstance(state, list) else state
