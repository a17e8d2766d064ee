"""A long text in chunks: 200 MB as one string of Python take up to 800 MB, and its words as a list ten times that.

    UTF-8 bytes -> chunks of about a megabyte -> token ids in the smallest dtype

Chunks end between a letter, digit or underscore and white space. There every pattern by which byte-level BPEs split a
text into words splits it too, so that the ids of the chunks are those of the text.
"""

import codecs
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpt2lab.data.manifest import token_dtype
from gpt2lab.tokenizers import Tokenizer

CHUNK_BYTES = 2**20
LONGEST_CHUNK = 2**24
"""characters without a boundary, after which a chunk ends anywhere: this only keeps pairs across it from merging"""

CHUNK_BOUNDARY = re.compile(r"(?<=\w)(?=[ \n])")
TAIL_CHARACTERS = 2**10


def text_chunks(content: bytes) -> Iterator[str]:
    """The text of valid UTF-8 bytes, in chunks."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest = ""
    for begin in range(0, len(content), CHUNK_BYTES):
        rest += decoder.decode(content[begin : begin + CHUNK_BYTES])
        if begin + CHUNK_BYTES < len(content) and (cut := _last_boundary(rest)):
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _last_boundary(text: str) -> int:
    """Characters before the last boundary; 0 if there is none and the text is not too long yet."""
    for begin in (len(text) - TAIL_CHARACTERS, 0):
        boundaries = [match.start() for match in CHUNK_BOUNDARY.finditer(text, max(0, begin))]
        if boundaries:
            return boundaries[-1]
    return len(text) if len(text) >= LONGEST_CHUNK else 0


def count_words(content: bytes) -> int:
    """Number of words separated by white space in a text."""
    words, inside_word = 0, False
    for chunk in text_chunks(content):
        words += len(chunk.split()) - (inside_word and not chunk[0].isspace())
        inside_word = not chunk[-1].isspace()
    return words


class TokenBuffer:
    """Token ids that grow at their end, in the smallest dtype."""

    def __init__(self, vocab_size: int, expected: int = 0) -> None:
        """Args: vocab_size: bounds the ids; expected: ids to have room for at first."""
        self._room = np.empty(expected, token_dtype(vocab_size))
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def tokens_n(self) -> NDArray[np.integer]:
        """The ids so far."""
        return self._room[: self._length]

    def append(self, ids_n: NDArray[np.integer]) -> None:
        """Add ids."""
        end = self._length + len(ids_n)
        if end > len(self._room):
            self._room.resize(end + end // 4, refcheck=False)  # the operating system moves large arrays without a copy
        self._room[self._length : end] = ids_n
        self._length = end


def encode_chunks(content: bytes, tokenizer: Tokenizer) -> Iterator[NDArray[np.unsignedinteger]]:
    """The ids of a text, chunk by chunk where the tokenizer splits at white space."""
    if tokenizer.splits_at_white_space:
        yield from map(tokenizer.encode_array, text_chunks(content))
    else:
        yield tokenizer.encode_array(content.decode("utf-8"))
