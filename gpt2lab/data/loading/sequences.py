"""A split as a list of training sequences: windows of the token stream, or whole documents packed and padded.

Legend: B = sequences of a batch, T = tokens of a sequence, R = sequences of the split, D = documents.

The targets of a sequence are its inputs shifted by one token. The end-of-text before a document also ends the document
before it: it is a target like any other, predicted from the document that it ends, and then the first input of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import IGNORE_INDEX, UserError
from gpt2lab.data.loading.stream import TokenStream


class Batch(NamedTuple):
    """The input of the model, all int64 [B, T]."""

    inputs_BT: NDArray[np.int64]
    targets_BT: NDArray[np.int64]
    """``IGNORE_INDEX`` in the padding, which is neither scored nor counted"""
    pos_BT: NDArray[np.int64] | None = None
    """position within the document, or within its part in this sequence; None: documents are not told apart"""
    segment_BT: NDArray[np.int64] | None = None
    """number of the document within the sequence, from 0; a token attends only to tokens of its own number"""


class Sequences(ABC):
    """A split as a list of sequences that are read by their number."""

    padded: ClassVar[bool]
    """some targets are ``IGNORE_INDEX``"""

    def __init__(self, stream: TokenStream, sequence_length: int) -> None:
        self.stream = stream
        self.sequence_length = sequence_length

    @property
    def parts(self) -> list[tuple[TokenStream, float]]:
        """The streams that the sequences are from, with the share of each."""
        return [(self.stream, 1.0)]

    @abstractmethod
    def __len__(self) -> int:
        """Sequences of the split, at least 1."""

    @property
    def dropped_tokens(self) -> int:
        """Tokens of the split that are in no sequence."""
        return 0

    @abstractmethod
    def read(self, sequence_B: NDArray[np.int64]) -> Batch:
        """The inputs and targets of the sequences with these numbers."""


class ConsecutiveWindows(Sequences):
    """Sequence w is the tokens [w T, w T + T], so that each token but the first is a target once; documents are cut.

    Raises:
        UserError: the split is shorter than one window.
    """

    padded = False

    def __init__(self, stream: TokenStream, sequence_length: int) -> None:
        super().__init__(stream, sequence_length)
        self._windows = (len(stream) - 1) // sequence_length
        if self._windows < 1:
            raise UserError(
                f"training.sequence_length={sequence_length}: the {stream.split} split of {stream.folder} has "
                f"{len(stream)} tokens, expected at least {sequence_length + 1} for one sequence: shorten the "
                "sequence, or prepare more text"
            )

    def __len__(self) -> int:
        return self._windows

    @property
    def dropped_tokens(self) -> int:
        """Tokens at the end of the split that fill no window, fewer than ``sequence_length``."""
        return len(self.stream) - 1 - len(self) * self.sequence_length

    def read(self, sequence_B: NDArray[np.int64]) -> Batch:
        """See ``Sequences.read``."""
        inputs_BT = np.empty((len(sequence_B), self.sequence_length), dtype=np.int64)
        targets_BT = np.empty_like(inputs_BT)
        for row, window in enumerate(sequence_B.tolist()):
            start = window * self.sequence_length
            tokens = self.stream.read(start, start + self.sequence_length + 1)
            inputs_BT[row], targets_BT[row] = tokens[:-1], tokens[1:]
        return Batch(inputs_BT, targets_BT)


class PackedDocuments(Sequences):
    """Sequence r is as many whole documents, in the order of the split, as fit, followed by padding.

    A document longer than a sequence is cut every T tokens; its last part shares a sequence with what follows. The
    borders take 8 bytes per sequence, about 0.4 % of the size of the tokens at T = 1,024.

    Raises:
        UserError: the split has fewer than two tokens.
    """

    padded = True

    def __init__(self, stream: TokenStream, sequence_length: int) -> None:
        super().__init__(stream, sequence_length)
        if len(stream) < 2:
            raise UserError(
                f"data.packing=documents: the {stream.split} split of {stream.folder} has {len(stream)} token, "
                "expected at least 2, an input and a target: prepare more text"
            )
        self._borders_R = pack(stream.starts(), len(stream), sequence_length)

    def __len__(self) -> int:
        return len(self._borders_R) - 1

    def read(self, sequence_B: NDArray[np.int64]) -> Batch:
        """See ``Sequences.read``."""
        shape = (len(sequence_B), self.sequence_length)
        inputs_BT = np.full(shape, self.stream.eot_id, dtype=np.int64)
        targets_BT = np.full(shape, IGNORE_INDEX, dtype=np.int64)
        for row, number in enumerate(sequence_B.tolist()):
            begin, end = self._borders_R[number : number + 2].tolist()
            tokens = self.stream.read(begin, min(end + 1, len(self.stream)))
            num_targets = len(tokens) - 1  # the last token of the split has no target
            inputs_BT[row, : end - begin] = tokens[: end - begin]
            targets_BT[row, :num_targets] = tokens[1:]
        return Batch(inputs_BT, targets_BT)


def pack(starts_D: NDArray[np.int64], length: int, sequence_length: int) -> NDArray[np.int64]:
    """The borders of the sequences, int64 [R + 1].

    A sequence that begins at token p ends at the last document border in (p, p + T], or at p + T if there is none. So
    one that begins with a document of L tokens is followed by ceil(L / T) - 1 sequences until one ends at a document
    border again. That gives the next document that begins a sequence for each document at once; those that are
    reached from the first one are collected by doubling: 2, 4, 8, ... steps ahead.

    The last token of the split has no target, so it begins no sequence: it is the last target of the one before.

    Args:
        starts_D: where documents begin, ascending from 0.
        length: tokens of the split.
        sequence_length: T.
    """
    num_documents = len(starts_D)
    borders_D = np.append(starts_D, length)
    parts_D = -(-np.diff(borders_D) // sequence_length)
    next_D = np.searchsorted(borders_D, starts_D + parts_D * sequence_length, side="right") - 1

    jump_D = np.append(next_D, num_documents)  # the end of the split leads to itself
    chain = np.zeros(1, dtype=np.int64)
    while chain[-1] < num_documents:
        chain = np.concatenate([chain, jump_D[chain]])
        jump_D = jump_D[jump_D]
    chain = chain[chain < num_documents]

    parts = parts_D[chain]
    part_R = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    borders = np.append(np.repeat(starts_D[chain], parts) + part_R * sequence_length, length)
    return borders[:-1] if borders[-2] == length - 1 else borders


PACKINGS: dict[str, Callable[[TokenStream, int], Sequences]] = {
    "windows": ConsecutiveWindows,
    "documents": PackedDocuments,
}


def document_begins(batch: Batch, eot_id: int) -> NDArray[np.bool_]:
    """Where documents begin, [B, T]: at each end-of-text."""
    return batch.inputs_BT == eot_id


def with_layout(batch: Batch, begins_BT: NDArray[np.bool_]) -> Batch:
    """Add segments to the batch: a text begins at the start of each sequence and wherever ``begins_BT`` is true."""
    begins_BT = begins_BT.copy()
    begins_BT[:, 0] = True
    index_BT = np.broadcast_to(np.arange(begins_BT.shape[1]), begins_BT.shape)
    pos_BT = index_BT - np.maximum.accumulate(np.where(begins_BT, index_BT, 0), axis=1)
    return batch._replace(pos_BT=pos_BT, segment_BT=np.cumsum(begins_BT, axis=1, dtype=np.int64) - 1)
