"""The interface of a tokenizer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import UserError

END_OF_TEXT = "<|endoftext|>"


class Tokenizer(ABC):
    """A fixed map from text to ids ``0 <= id < vocab_size``, and from ids to bytes."""

    name: str
    """names the folder of its prepared datasets: gpt2, bytes, bpe_4096, huggingface_1a2b3c4d"""
    vocab_size: int
    eot_id: int
    """end-of-text, which ends a document; no text ever encodes to it"""
    fingerprint: str
    """SHA-256 in hex; equal for two tokenizers exactly when they give the same ids"""
    lossless: bool = True
    """decoding gives the text back, so that the bytes of a text's ids add up to its UTF-8 length"""
    splits_at_white_space: bool = True
    """the ids of a text are those of its two parts, if it is cut between a letter and white space"""

    adds_bos: bool = False
    """whether its file says that each text begins with ``bos_id``, one other than ``eot_id``, as Llama's does"""

    @property
    def bos_id(self) -> int:
        """The id that stands before each document: ``eot_id``, unless there is one of its own (Llama's <s>)."""
        return self.eot_id

    @property
    def overrides(self) -> tuple[str, ...]:
        """What selects this tokenizer on the command line."""
        return (f"tokenizer={self.name}",)

    @property
    def files(self) -> Mapping[str, str]:
        """Name and content of the files that a checkpoint carries; none where the tokenizer is built in."""
        return {}

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the ids of ordinary text: the characters ``<|endoftext|>`` in it stay characters."""

    @abstractmethod
    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """Return ``encode`` of a text that has a UTF-8 form, without a Python object for each token."""

    @abstractmethod
    def id_bytes(self, token: int) -> bytes:
        """Return the bytes that one id in range stands for; end-of-text shows as ``<|endoftext|>``."""

    @abstractmethod
    def hugging_face_files(self) -> Mapping[str, str]:
        """Return name and content of the files from which ``AutoTokenizer`` makes this tokenizer."""

    def encode_with_lengths(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ids of a text and, for each, how many bytes of the text it covers.

        The lengths add up to the text's UTF-8 length, also for a tokenizer that is not ``lossless``.
        """
        ids = self.encode_array(text).astype(np.int64)
        return ids, self.token_lengths()[ids]

    def encode_with_bos(self, text: str) -> list[int]:
        """Return the ids that transformers gives a model: those of ``text``, after ``bos_id`` if ``adds_bos``."""
        ids = self.encode(text)
        return [self.bos_id, *ids] if self.adds_bos else ids

    def encode_prompt(self, text: str) -> list[int]:
        """Return the ids with which a model begins to read ``text``; those of a new document where it is empty.

        A tokenizer with a token of its own for the beginning (Llama's <s>) puts it first.
        """
        ids = self.encode(text)
        return ids if ids and self.bos_id == self.eot_id else [self.bos_id, *ids]

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Return the bytes of ``ids``; an id outside the vocabulary is a ``UserError``."""
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise UserError(
                    f"token id {token}: expected 0 <= id < {self.vocab_size}, the ids of tokenizer={self.name}"
                )
        return b"".join(map(self.id_bytes, ids))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``; bytes that are no valid UTF-8 show as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def token_lengths(self) -> NDArray[np.int64]:
        """Return the bytes that each id decodes to, int64 [vocab_size]; 0 for end-of-text, which is not text.

        Only for a ``lossless`` tokenizer do they add up to the bytes of the text; see ``encode_with_lengths``.
        """
        lengths = np.array([len(self.id_bytes(token)) for token in range(self.vocab_size)], dtype=np.int64)
        lengths[self.eot_id] = 0
        return lengths


def replace_surrogates(text: str) -> str:
    """Return ``text`` with U+FFFD for lone surrogates, which a terminal can hand over and which have no UTF-8 form."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
