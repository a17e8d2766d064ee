"""The work on one chunk: read its documents, assign each to a split, tokenize it.

Legend: N = tokens of one split of a chunk, D = documents of one split of a chunk.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.data.manifest import TextTokenizer, token_dtype
from gpt2lab.data.sources import Chunk, Problem, Source

DIGEST_BYTES = 16
"""of a document's SHA-256, by which copies are found; a chance collision is likely only among 2**64 documents"""


class TokenizedDocuments(NamedTuple):
    """Documents of one split, in order, with end-of-text before each."""

    tokens_N: NDArray[np.unsignedinteger]
    lengths_D: NDArray[np.int64]
    """tokens of each document, end-of-text included"""
    text_bytes_D: NDArray[np.int64]
    digests: bytes
    """``DIGEST_BYTES`` of each document if requested, else empty"""


class TokenizedChunk(NamedTuple):
    """The documents of a chunk by split, and what was left out."""

    size: int
    """``Chunk.size``"""
    train: TokenizedDocuments
    val: TokenizedDocuments
    empty: int
    """documents without text, which are left out"""
    problems: list[Problem]


@dataclass(frozen=True)
class ChunkTokenizer:
    """Tokenizes chunks of ``source``; a value that can be pickled and sent to a worker."""

    source: Source
    tokenizer: TextTokenizer
    with_digests: bool

    def __call__(self, chunk: Chunk) -> TokenizedChunk:
        """Read and tokenize one chunk."""
        train, val = _DocumentList(self.tokenizer), _DocumentList(self.tokenizer)
        empty, problems = 0, []
        for document in self.source.read(chunk):
            if isinstance(document, Problem):
                problems.append(document)
            elif not document:
                empty += 1
            else:
                text = document.encode("utf-8")
                digest = hashlib.sha256(text).digest()
                split = val if self._is_validation(chunk, digest) else train
                split.add(document, len(text), digest[:DIGEST_BYTES] if self.with_digests else b"")
        return TokenizedChunk(chunk.size, train.finish(), val.finish(), empty, problems)

    def _is_validation(self, chunk: Chunk, digest: bytes) -> bool:
        if chunk.split is not None:
            return chunk.split == "val"
        assert self.source.val_fraction is not None
        return is_validation(digest, self.source.val_fraction)


def is_validation(digest: bytes, val_fraction: float) -> bool:
    """Whether a document is validation text, by its SHA-256 alone, so that copies of it are in the same split."""
    return int.from_bytes(digest[:8], "big") < val_fraction * 2**64


class _DocumentList:
    """Collects the documents of one split."""

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

    def finish(self) -> TokenizedDocuments:
        tokens_N = np.concatenate(self._parts) if self._parts else self._end_of_text[:0]
        largest = int(tokens_N.max(initial=0))
        assert largest < self._tokenizer.vocab_size, f"token id {largest} is outside the vocabulary"
        return TokenizedDocuments(
            tokens_N.astype(self._dtype),
            np.array(self._lengths, dtype=np.int64),
            np.array(self._text_bytes, dtype=np.int64),
            b"".join(self._digests),
        )
