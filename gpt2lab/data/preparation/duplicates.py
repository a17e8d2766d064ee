"""Finds copies of documents by their digests, kept in sorted arrays, and in a file to resume from after a kill."""

from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from gpt2lab.data.preparation.tokenization import DIGEST_BYTES
from gpt2lab.files import sync


class SeenDocuments:
    """The digests of all documents so far, 16 bytes each, in sorted arrays; arrays of similar length are merged.

    A context manager: leaving it closes the file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._sorted: list[NDArray[np.bytes_]] = []
        self._handle: IO[bytes] | None = None
        self._length = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._handle:
            self._handle.close()

    def add(self, digests: bytes) -> NDArray[np.bool_]:
        """Add documents by their concatenated digests; returns which are no copy of an earlier one, bool [D]."""
        digest_D = as_array(digests)
        first_D = np.zeros(len(digest_D), dtype=np.bool_)
        first_D[np.unique(digest_D, return_index=True)[1]] = True
        for known in self._sorted:
            index_D = np.minimum(np.searchsorted(known, digest_D), len(known) - 1)
            first_D &= known[index_D] != digest_D
        new = digest_D[first_D]
        if len(new):
            self._insert(np.sort(new))
            self._handle = self._handle or self.file.open("wb")
            self._handle.write(new.tobytes())
            self._length += len(new)
        return first_D

    def state(self) -> int:
        """The number of digests in the file; they are on the disk when this returns."""
        if self._handle:
            sync(self._handle)
        return self._length

    def restore(self, length: int) -> None:
        """Resume from ``state()``."""
        if length:
            self._length = length
            self._handle = self.file.open("r+b")
            self._insert(np.sort(as_array(self._handle.read(length * DIGEST_BYTES))))
            self._handle.truncate()

    def _insert(self, new: NDArray[np.bytes_]) -> None:
        while self._sorted and len(self._sorted[-1]) <= 2 * len(new):
            new = np.sort(np.concatenate([self._sorted.pop(), new]))
        self._sorted.append(new)


def as_array(digests: bytes) -> NDArray[np.bytes_]:
    """Concatenated digests as an array of 16-byte strings."""
    return np.frombuffer(digests, dtype=np.dtype(f"S{DIGEST_BYTES}"))
