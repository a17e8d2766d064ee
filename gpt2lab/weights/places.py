"""Where the tensors of a file belong in a model: {name in the file: a view of our parameter}.

Reading copies each tensor of a file into its view, writing copies each view into a file, so that one table of names
and layouts serves both.

Legend: H = heads, D = head_dim, P = rows of the embedding, the vocabulary's and padding.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from gpt2lab.config import ModelConfig
from gpt2lab.model import GPT


class Place(NamedTuple):
    """Where one of their tensors stands in our parameters."""

    view: Tensor
    """of the parameter"""
    shape: tuple[int, ...]
    """of the tensor in their file, as many numbers as the view has"""


def same(parameter: Tensor, config: ModelConfig) -> list[Place]:
    """The whole parameter, as it is."""
    return [Place(parameter, tuple(parameter.shape))]


def transposed(parameter: Tensor, config: ModelConfig) -> list[Place]:
    """A matrix stored as [in, out] (the Conv1D of GPT-2); vectors as they are."""
    return same(parameter.t(), config)


def vocabulary(parameter_PC: Tensor, config: ModelConfig) -> list[Place]:
    """The rows of real token ids."""
    return same(parameter_PC[: config.vocab_size], config)


def split_qkv(parameter: Tensor, config: ModelConfig) -> list[Place]:
    """Three tensors: q, k and v."""
    rows = [heads * config.head_dim for heads in (config.n_head, config.kv_heads, config.kv_heads)]
    return [place for part in parameter.split(rows) for place in same(part, config)]


def interleaved_qkv(parameter: Tensor, config: ModelConfig) -> list[Place]:
    """One tensor with q, k and v of the first head, then of the second, ...: [H, 3, D, ...] to our [3, H, D, ...]."""
    view = parameter.unflatten(0, (3, config.n_head, config.head_dim)).transpose(0, 1)
    return [Place(view, tuple(parameter.shape))]


class TensorNames(ABC):
    """The names and layouts of the tensors in files of one kind."""

    EMBEDDING: ClassVar[str]
    """the token embedding"""
    HEAD: ClassVar[str]
    """the output head"""

    @abstractmethod
    def places(self, model: GPT) -> dict[str, Place]:
        """Each tensor of a file of this kind, by its full name, and where it belongs in ``model``."""

    def full_name(self, name: str) -> str:
        """A tensor's name in a file -> its name in ``places``."""
        return name

    def is_buffer(self, full_name: str) -> bool:
        """Whether a tensor is a constant that some versions of the other library store beside the weights."""
        return False
