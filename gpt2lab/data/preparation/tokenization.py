"""What a worker does: a piece of a source -> documents -> train or val by a hash -> token ids.

Legend: N = tokens of one side of a piece, D = its documents.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.data.manifest import TextTokenizer, token_dtype
from gpt2lab.data.sources import Piece, Problem, Source

DIGEST_BYTES = 16
"""of a document's SHA-256, by which copies are known; 2**64 documents would be needed for a chance collision"""


class Side(NamedTuple):
    """Documents of one split, in order, with end-of-text before each."""

    tokens_N: NDArray[np.unsignedinteger]
    lengths_D: NDArray[np.int64]
    """tokens of each document, end-of-text included"""
    text_bytes_D: NDArray[np.int64]
    digests: bytes
    """``DIGEST_BYTES`` of each document, where they were asked for"""


class Tokenised(NamedTuple):
    """A piece, tokenised."""

    size: int
    """as in ``Piece``"""
    train: Side
    val: Side
    empty: int
    """documents without text, which are left out"""
    problems: list[Problem]


@dataclass(frozen=True)
class Tokeniser:
    """The work, as a value that can be sent to another process."""

    source: Source
    tokenizer: TextTokenizer
    val_fraction: float
    with_digests: bool

    def __call__(self, piece: Piece) -> Tokenised:
        """Read and tokenise one piece."""
        sides = _SideBuilder(self.tokenizer), _SideBuilder(self.tokenizer)
        empty, problems = 0, []
        for document in self.source.read(piece):
            if isinstance(document, Problem):
                problems.append(document)
            elif not document:
                empty += 1
            else:
                text = document.encode("utf-8")
                digest = hashlib.sha256(text).digest()
                in_val = piece.split == "val" if piece.split else is_held_out(digest, self.val_fraction)
                sides[in_val].add(document, len(text), digest[:DIGEST_BYTES] if self.with_digests else b"")
        train, val = (side.finish() for side in sides)
        return Tokenised(piece.size, train, val, empty, problems)


def is_held_out(digest: bytes, val_fraction: float) -> bool:
    """Whether a document is validation text, by its SHA-256 alone: copies of it fall on the same side."""
    return int.from_bytes(digest[:8], "big") < val_fraction * 2**64


class _SideBuilder:
    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._dtype: np.dtype[Any] = token_dtype(tokenizer.vocab_size)
        self._end_of_text = np.array([tokenizer.eot_id], dtype=np.uint32)
        self._parts: list[NDArray[np.unsignedinteger]] = []
        self._lengths: list[int] = []
        self._text_bytes: list[int] = []
        self._digests: list[bytes] = []

    def add(self, document: str, text_bytes: int, digest: bytes) -> None:
        ids = self._tokenizer.encode_array(document)
        self._parts += [self._end_of_text, ids]
        self._lengths.append(1 + len(ids))
        self._text_bytes.append(text_bytes)
        self._digests.append(digest)

    def finish(self) -> Side:
        tokens_N = np.concatenate(self._parts) if self._parts else self._end_of_text[:0]
        largest = int(tokens_N.max(initial=0))
        assert largest < self._tokenizer.vocab_size, f"token id {largest} is outside the vocabulary"
        return Side(
            tokens_N.astype(self._dtype),
            np.array(self._lengths, dtype=np.int64),
            np.array(self._text_bytes, dtype=np.int64),
            b"".join(self._digests),
        )
