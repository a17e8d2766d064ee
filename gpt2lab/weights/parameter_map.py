"""Parameter mapping: {name of a tensor in a file: view of our parameter}.

Reading copies each tensor of a file into its view; writing copies each view into a file. One table of names and layouts
serves both.

Legend: H = heads, D = head_dim, P = rows of the embedding: one per token id, and padding.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from gpt2lab.config import ModelConfig
from gpt2lab.model import GPT


class MappedTensor(NamedTuple):
    """The view of our parameter that one tensor of a file fills."""

    view: Tensor
    shape: tuple[int, ...]
    """of the tensor in the file; it has as many elements as the view"""


def as_it_is(parameter: Tensor, config: ModelConfig) -> list[MappedTensor]:
    """Map the whole parameter in its own layout."""
    return [MappedTensor(parameter, tuple(parameter.shape))]


def transposed(parameter: Tensor, config: ModelConfig) -> list[MappedTensor]:
    """Map a matrix that is stored as [in, out] (GPT-2's Conv1D); vectors as they are."""
    return as_it_is(parameter.t(), config)


def vocabulary_rows(parameter_PC: Tensor, config: ModelConfig) -> list[MappedTensor]:
    """Map the rows of real token ids, without the padding."""
    return as_it_is(parameter_PC[: config.vocab_size], config)


def split_qkv(parameter: Tensor, config: ModelConfig) -> list[MappedTensor]:
    """Map the queries', keys' and values' rows to a tensor each."""
    rows = [heads * config.head_dim for heads in (config.n_head, config.kv_heads, config.kv_heads)]
    return [mapped for part in parameter.split(rows) for mapped in as_it_is(part, config)]


def interleaved_qkv(parameter: Tensor, config: ModelConfig) -> list[MappedTensor]:
    """Map to one tensor with q, k, v of each head in turn: theirs is [H, 3, D, ...], ours [3, H, D, ...]."""
    view = parameter.unflatten(0, (3, config.n_head, config.head_dim)).transpose(0, 1)
    return [MappedTensor(view, tuple(parameter.shape))]


class TensorFormat(ABC):
    """Names and layouts of the tensors in one kind of file."""

    EMBEDDING: ClassVar[str]
    """name of the token embedding"""
    HEAD: ClassVar[str]
    """name of the output head"""

    @abstractmethod
    def parameter_map(self, model: GPT) -> dict[str, MappedTensor]:
        """Return, by full name, each tensor of such a file and the view of ``model`` that it fills."""

    def full_name(self, name: str) -> str:
        """Return the key in ``parameter_map`` of a tensor's name in a file."""
        return name

    def is_buffer(self, full_name: str) -> bool:
        """Return whether a tensor is a constant that some versions of the other library store beside the weights."""
        return False
