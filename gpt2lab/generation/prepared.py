"""Prepared weights that are kept between calls, for as long as the model they were made from stays as it is.

Preparing GPT-2 small for decoding takes a CPU as long as several tokens.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gpt2lab.generation.weights import Head, decoding_copy, decoding_head, decoding_runtime
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

    ``largest`` is that of ``decoding_head``.

    It is kept while the model is in evaluation mode, and made anew after any change of a weight, a module or the
    arguments. A model in training mode, or with hooks, is prepared at each call.
    """
    key = None if model.training or _is_modified(model) else (runtime, batch_size, largest, _state(model))
    if key is not None and model in _CACHE and _CACHE[model][0] == key:
        return _CACHE[model][1]
    _CACHE.pop(model, None)
    decoding = decoding_runtime(runtime, model.config, batch_size)
    head = decoding_head(model.head_PC, model.config.vocab_size, decoding, batch_size, largest)
    prepared = Prepared(decoding, decoding_copy(model, decoding, batch_size), head)
    if key is not None:
        _CACHE[model] = key, prepared
    return prepared


def _is_modified(model: GPT) -> bool:
    """Whether what the modules compute is more than their code says: hooks, or another function as ``forward``."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module) for module in model.modules()
    )


def _state(model: GPT) -> object:
    """Equal as long as no weight has changed.

    PyTorch counts writes to a tensor, but not those through ``tensor.data``; these change the sum of the bits.
    """
    parameters = list(model.parameters())
    sums = torch.stack([_sum_of_bits(parameter) for parameter in parameters]).tolist()
    counts = [None if parameter.is_inference() else parameter._version for parameter in parameters]
    places = [(parameter.data_ptr(), parameter.dtype, parameter.shape) for parameter in parameters]
    return [id(module) for module in model.modules()], places, counts, sums


def _sum_of_bits(parameter: nn.Parameter) -> Tensor:
    flat = parameter.detach().flatten()
    words = torch.int64 if flat.nbytes % 8 == 0 else {2: torch.int16, 4: torch.int32}[flat.itemsize]
    return flat.view(words).sum(dtype=torch.int64)
