"""The interface of a tokenizer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import UserError

END_OF_TEXT = "<|endoftext|>"


class Tokenizer(ABC):
    """A fixed, reversible map between text and ids ``0 <= id < vocab_size``."""

    name: str
    vocab_size: int
    eot_id: int
    """end-of-text, the id that stands before each document; no text ever encodes to it"""
    fingerprint: str
    """SHA-256 in hex; equal for two tokenizers exactly when they give the same ids"""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text: the characters ``<|endoftext|>`` in it stay characters."""

    @abstractmethod
    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """``encode`` for a text that has a UTF-8 form, without a Python object for each token."""

    @abstractmethod
    def id_bytes(self, token: int) -> bytes:
        """The bytes that one id in range stands for; end-of-text shows as ``<|endoftext|>``."""

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of ``ids``; an id outside the vocabulary is a ``UserError``."""
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise UserError(
                    f"token id {token}: expected 0 <= id < {self.vocab_size}, the ids of tokenizer={self.name}"
                )
        return b"".join(map(self.id_bytes, ids))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; bytes that are no valid UTF-8 show as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def token_lengths(self) -> np.ndarray:
        """Bytes of text of each id, int64 [vocab_size]; 0 for end-of-text, which is no text."""
        lengths = np.array([len(self.id_bytes(token)) for token in range(self.vocab_size)], dtype=np.int64)
        lengths[self.eot_id] = 0
        return lengths
