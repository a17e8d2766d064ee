"""Batches of token ids as the model takes them: numpy -> tensors, pinned where a GPU fetches them -> device -> parts.

Legend: B = sequences, T = tokens.
"""

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpt2lab.data import Batch
from gpt2lab.model import IGNORE_INDEX, Layout
from gpt2lab.runtime import Runtime


class TensorBatch(NamedTuple):
    """Inputs and targets, int64 [B, T], and where the tokens stand (None: each row is one text)."""

    inputs_BT: Tensor
    targets_BT: Tensor
    layout: Layout | None
    scored: int
    """targets that are not IGNORE_INDEX"""

    def to(self, device: torch.device) -> "TensorBatch":
        """The batch on ``device``; from pinned memory the copy continues while the host does other things."""

        def move(ids_BT: Tensor) -> Tensor:
            return ids_BT.to(device, non_blocking=True)

        return TensorBatch(move(self.inputs_BT), move(self.targets_BT), _each(self.layout, move), self.scored)

    def split(self, rows: int) -> Iterator[tuple[Tensor, Tensor, Layout | None]]:
        """Inputs, targets and layout of ``rows`` sequences at a time."""
        for first in range(0, len(self.inputs_BT), rows):
            part = itemgetter(slice(first, first + rows))
            yield part(self.inputs_BT), part(self.targets_BT), _each(self.layout, part)


def as_tensors(batch: Batch, runtime: Runtime) -> TensorBatch:
    """``batch`` in the host's memory, ready to go to the run's device."""
    inputs_BT, targets_BT, pos_BT, segment_BT = (None if ids is None else _host(ids, runtime) for ids in batch)
    assert inputs_BT is not None
    assert targets_BT is not None
    return TensorBatch(
        inputs_BT,
        targets_BT,
        None if pos_BT is None else Layout(pos_BT, segment_BT),
        int(np.count_nonzero(batch.targets_BT != IGNORE_INDEX)),
    )


def _host(ids: np.ndarray, runtime: Runtime) -> Tensor:
    tensor = torch.from_numpy(ids)
    return tensor.pin_memory() if runtime.device.type == "cuda" else tensor


def _each(layout: Layout | None, function: Callable[[Tensor], Tensor]) -> Layout | None:
    if layout is None:
        return None
    assert layout.segment_BT is not None  # documents that are told apart have numbers
    return Layout(function(layout.pos_BT), function(layout.segment_BT))
