"""Which documents came before: their digests -> sorted arrays in memory, and a file to go on from after a kill."""

from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from gpt2lab.data.preparation.tokenization import DIGEST_BYTES
from gpt2lab.files import sync


class SeenDocuments:
    """A set of digests at 16 bytes each: sorted arrays, of which two of equal size class are merged into one.

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
        """Which of the documents, by their digests one after the other, are the first of their kind: bool [D]."""
        digest_D = as_array(digests)
        first_D = np.zeros(len(digest_D), dtype=np.bool_)
        first_D[np.unique(digest_D, return_index=True)[1]] = True
        for known in self._sorted:
            place_D = np.minimum(np.searchsorted(known, digest_D), len(known) - 1)
            first_D &= known[place_D] != digest_D
        new = digest_D[first_D]
        if len(new):
            self._insert(np.sort(new))
            self._handle = self._handle or self.file.open("wb")
            self._handle.write(new.tobytes())
            self._length += len(new)
        return first_D

    def state(self) -> int:
        """Digests that are in the file and on the disk."""
        if self._handle:
            sync(self._handle)
        return self._length

    def restore(self, length: int) -> None:
        """Go on from ``state()``."""
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
    """Digests one after the other as an array of 16-byte strings."""
    return np.frombuffer(digests, dtype=np.dtype(f"S{DIGEST_BYTES}"))
