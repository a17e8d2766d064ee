"""A split cut into training rows: token stream -> windows, or whole documents packed -> inputs and targets.

Legend: B = rows, T = tokens of a row, R = rows of the split, D = documents.

A row's targets are the tokens one further on. The end-of-text before a document is also what ends the one before it:
it is a target like any other, predicted from the document that ends there, and then the first input of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import PADDING_TARGET, UserError
from gpt2lab.data.loading.stream import TokenStream


class Batch(NamedTuple):
    """What the model is given, all int64 [B, T]."""

    inputs_BT: NDArray[np.int64]
    targets_BT: NDArray[np.int64]
    pos_BT: NDArray[np.int64] | None = None
    """place within the document, or within its part in this row; None: documents are not told apart"""
    segment_BT: NDArray[np.int64] | None = None
    """number of the document within the row, from 0; a token may look at those of its own number alone"""


class Sequences(ABC):
    """A split as a list of rows that are read by their number."""

    padded: ClassVar[bool]
    """some targets are ``PADDING_TARGET``"""

    def __init__(self, stream: TokenStream, sequence_length: int) -> None:
        self.stream = stream
        self.sequence_length = sequence_length

    @abstractmethod
    def __len__(self) -> int:
        """Sequences in the split, at least 1."""

    @property
    def dropped_tokens(self) -> int:
        """Tokens of the split that are in no row."""
        return 0

    @abstractmethod
    def read(self, row_B: NDArray[np.int64]) -> Batch:
        """The inputs and targets of some rows."""


class Windows(Sequences):
    """Row w is the tokens [w T, w T + T], so that each token but the first is a target once; documents are cut.

    Raises:
        UserError: the split is shorter than one window.
    """

    padded = False

    def __init__(self, stream: TokenStream, sequence_length: int) -> None:
        super().__init__(stream, sequence_length)
        self._windows = (len(stream) - 1) // sequence_length
        if self._windows < 1:
            raise UserError(
                f"the {stream.split} split has {len(stream)} tokens, expected at least {sequence_length + 1} for one "
                f"sequence of training.sequence_length={sequence_length}: shorten the sequence, or prepare more text"
            )

    def __len__(self) -> int:
        return self._windows

    @property
    def dropped_tokens(self) -> int:
        """Tokens at the end of the split that fill no window, fewer than ``sequence_length``."""
        return len(self.stream) - 1 - len(self) * self.sequence_length

    def read(self, row_B: NDArray[np.int64]) -> Batch:
        """See ``Sequences.read``."""
        inputs_BT = np.empty((len(row_B), self.sequence_length), dtype=np.int64)
        targets_BT = np.empty_like(inputs_BT)
        for row, window in enumerate(row_B.tolist()):
            start = window * self.sequence_length
            tokens = self.stream.read(start, start + self.sequence_length + 1)
            inputs_BT[row], targets_BT[row] = tokens[:-1], tokens[1:]
        return Batch(inputs_BT, targets_BT)


class PackedDocuments(Sequences):
    """Row r is as many whole documents, in the order of the split, as fit; what is left of it is padding.

    A document longer than a row is cut every T tokens, and its end shares a row with what comes after. The borders
    take 8 bytes a row, about 0.4 % of the tokens' own size at 1,024 tokens.
    """

    padded = True

    def __init__(self, stream: TokenStream, sequence_length: int) -> None:
        super().__init__(stream, sequence_length)
        self._borders_R = pack(stream.starts(), len(stream), sequence_length)

    def __len__(self) -> int:
        return len(self._borders_R) - 1

    def read(self, row_B: NDArray[np.int64]) -> Batch:
        """See ``Sequences.read``."""
        shape = (len(row_B), self.sequence_length)
        inputs_BT = np.full(shape, self.stream.eot_id, dtype=np.int64)
        targets_BT = np.full(shape, PADDING_TARGET, dtype=np.int64)
        for row, number in enumerate(row_B.tolist()):
            begin, end = self._borders_R[number : number + 2].tolist()
            tokens = self.stream.read(begin, min(end + 1, len(self.stream)))
            targets = len(tokens) - 1  # the last token of the split has no target
            inputs_BT[row, : end - begin] = tokens[: end - begin]
            targets_BT[row, :targets] = tokens[1:]
        return Batch(inputs_BT, targets_BT)


def pack(starts_D: NDArray[np.int64], length: int, row_tokens: int) -> NDArray[np.int64]:
    """The borders of the rows, int64 [R + 1]: the last document border within reach, or a full row if there is none."""
    ends = [*starts_D[1:].tolist(), length]
    borders, position, document = [0], 0, 0
    while position < length:
        reach = position + row_tokens
        first = document
        while document < len(ends) and ends[document] <= reach:
            document += 1
        position = ends[document - 1] if document > first else reach
        borders.append(position)
    return np.array(borders, dtype=np.int64)


PACKINGS: dict[str, Callable[[TokenStream, int], Sequences]] = {"windows": Windows, "documents": PackedDocuments}


def with_layout(batch: Batch, eot_id: int) -> Batch:
    """The batch with its documents told apart; each begins with an end-of-text, apart from a row's first."""
    begins_BT = batch.inputs_BT == eot_id
    begins_BT[:, 0] = True
    place_BT = np.broadcast_to(np.arange(begins_BT.shape[1]), begins_BT.shape)
    pos_BT = place_BT - np.maximum.accumulate(np.where(begins_BT, place_BT, 0), axis=1)
    return batch._replace(pos_BT=pos_BT, segment_BT=np.cumsum(begins_BT, axis=1, dtype=np.int64) - 1)
