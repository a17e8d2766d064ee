"""Prepared weights that are kept between calls, for as long as the model they were made from stays as it is.

Preparing GPT-2 small for decoding takes a CPU as long as several tokens.
"""

import dataclasses
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gpt2lab.generation.weights import Head, decoding_copy, decoding_head, decoding_runtime, is_modified
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime


class Prepared(NamedTuple):
    """A model as decoding uses it."""

    runtime: Runtime
    """with the precision to decode in"""
    model: GPT
    head: Head


_CACHE: "WeakKeyDictionary[GPT, tuple[object, Prepared]]" = WeakKeyDictionary()


def prepare_for_decoding(model: GPT, runtime: Runtime, batch_size: int, largest: int | None = None) -> Prepared:
    """Prepare ``model`` for steps of ``batch_size`` rows, or return what an earlier call has prepared.

    It is kept while the model is in evaluation mode, and made anew after any change of a weight, a module, a setting of
    a module or the arguments. A model is prepared at each call if it is in training mode, has hooks or patched
    functions, or has modules with attributes that cannot be compared.

    Args:
        model: is not changed.
        runtime: device and precision.
        batch_size: rows of a step.
        largest: as in ``decoding_head``.
    """
    comparable = not model.training and not any(map(is_modified, model.modules())) and _has_plain_settings(model)
    key = (runtime, batch_size, largest, _state(model)) if comparable else None
    if key is not None and model in _CACHE and _CACHE[model][0] == key:
        return _CACHE[model][1]
    _CACHE.pop(model, None)
    decoding = decoding_runtime(runtime, model.config)
    head = decoding_head(model.head_PC, model.config.vocab_size, decoding, batch_size, largest)
    prepared = Prepared(decoding, decoding_copy(model, decoding, batch_size), head)
    if key is not None:
        _CACHE[model] = key, prepared
    return prepared


def _has_plain_settings(model: GPT) -> bool:
    return all(_is_plain(value) for module in model.modules() for value in _settings(module).values())


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str) or dataclasses.is_dataclass(value)


def _settings(module: nn.Module) -> dict[str, object]:
    """Attributes of a module other than its parameters, buffers and modules, which PyTorch keeps under names with _."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def _state(model: GPT) -> object:
    """Equal as long as no weight and no setting has changed.

    PyTorch counts writes to a tensor, but not those through ``tensor.data``. These change the sums of the bits of rows
    or of columns, or exchange them.
    """
    modules, tensors = list(model.modules()), [x for x in (*model.parameters(), *model.buffers()) if x.numel()]
    settings = [(id(module), type(module), repr(_settings(module))) for module in modules]
    counts = [None if tensor.is_inference() else tensor._version for tensor in tensors]
    storage = [(tensor.data_ptr(), tensor.dtype, tensor.shape) for tensor in tensors]
    sums = torch.stack([_sums_of_bits(tensor.detach()) for tensor in tensors]).tolist()
    return settings, counts, storage, sums


def _sums_of_bits(tensor: Tensor) -> Tensor:
    """The sums of rows and those of columns, each with the odd number of its place as weight; int64 that may wrap."""
    rows = tensor.contiguous().view(-1, tensor.shape[-1] if tensor.ndim else 1)
    fits = rows.shape[1] * rows.itemsize % 8 == 0
    words = rows.view(torch.int64 if fits else {1: torch.int8, 2: torch.int16, 4: torch.int32}[rows.itemsize])
    down, across = (torch.arange(1, 2 * n, 2, device=tensor.device) for n in words.shape)
    return torch.stack([(words.sum(1) * down).sum(), (words.sum(0) * across).sum()])
