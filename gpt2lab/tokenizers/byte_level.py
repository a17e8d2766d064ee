"""Byte-level BPE: what GPT-2's tokenizer and those trained like it share.

A text is split into words by a pattern, and each word's UTF-8 bytes are merged into the pieces of the vocabulary.
Vocabulary files write a byte as a printable character (``byte_characters``).
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tiktoken
from numpy.typing import NDArray

from gpt2lab.tokenizers.base import END_OF_TEXT

LONGEST_WHITE_SPACE = 2**16
"""characters of white space in a row that tiktoken is given at once; at about a million of them it breaks off"""

GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""GPT-2's splitting pattern, in tiktoken's equivalent and faster writing (r50k_pat_str)"""


class TiktokenEncoder:
    """GPT-2's splitting and a set of merges, run by tiktoken.

    tiktoken searches a text for special tokens, also where none is allowed, as here. Without any, its pattern for them
    is empty and found at each character, which takes 40 % of the time. So it is given one, whose id is never returned.
    """

    def __init__(self, ranks: Mapping[bytes, int]) -> None:
        special = {END_OF_TEXT: max(ranks.values()) + 1}
        self.encoding = tiktoken.Encoding(
            name="gpt2lab", pat_str=GPT2_PATTERN, mergeable_ranks=dict(ranks), special_tokens=special
        )

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``."""
        return list(itertools.chain.from_iterable(map(self.encoding.encode_ordinary, cut_white_space(text))))

    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """Return the ids of ``text`` as an array."""
        parts = [self.encoding.encode_to_numpy(part, disallowed_special=()) for part in cut_white_space(text)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class ByteLevelVocabulary(NamedTuple):
    """The content of a byte-level BPE, as its files have it."""

    ids: dict[str, int]
    """id of each piece, end-of-text included"""
    merges: Sequence[str]
    """pairs of pieces in the order in which they are merged, a space between the two"""
    splits_words: bool
    """whether the text is split into words first, by GPT-2's pattern"""

    def tokenizer_json(self) -> str:
        """Return the tokenizer.json of this vocabulary."""
        byte_level = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": self.splits_words,
        }
        end_of_text = {
            "id": self.ids[END_OF_TEXT],
            "content": END_OF_TEXT,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        values = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [end_of_text],
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": self.ids,
                "merges": list(self.merges),
            },
        }
        return as_json(values)


def tokenizer_config_json(tokenizer_class: str) -> str:
    """Return the tokenizer_config.json of a byte-level BPE whose only special token is end-of-text."""
    return as_json(
        {
            "tokenizer_class": tokenizer_class,
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "unk_token": END_OF_TEXT,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
        }
    )


def as_json(values: Mapping[str, Any]) -> str:
    """Return the content of a JSON file."""
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def byte_characters() -> dict[int, str]:
    """Return the printable character that stands for each byte, by byte, in the order of GPT-2's ids.

    A printable Latin-1 character other than space stands for itself; the 68 other bytes are U+0100, U+0101, ...
    """
    printable = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


LATIN1_OF = {ord(character): chr(byte) for byte, character in byte_characters().items()}


def piece_bytes(piece: str) -> bytes:
    """Return the bytes of a piece in printable form; a ``UnicodeEncodeError`` if a character stands for no byte."""
    return piece.translate(LATIN1_OF).encode("latin-1")


def cut_white_space(text: str) -> list[str]:
    """Return ``text`` in parts without a longer run of white space than ``LONGEST_WHITE_SPACE``.

    A cut only keeps the byte pairs across it from being merged. Runs of other characters need none: a million of
    them take tiktoken less than a second.
    """
    if len(text) <= LONGEST_WHITE_SPACE:
        return [text]
    cuts = [0]
    for run in re.finditer(rf"\s{{{LONGEST_WHITE_SPACE + 1},}}", text):
        cuts += range(run.start() + LONGEST_WHITE_SPACE, run.end(), LONGEST_WHITE_SPACE)
    return [text[begin:end] for begin, end in itertools.pairwise([*cuts, len(text)])]
