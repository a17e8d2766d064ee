"""Byte-level BPE: what GPT-2's tokenizer and those trained like it share."""

import itertools
import re

LONGEST_WHITE_SPACE = 2**16
"""characters of white space in a row that tiktoken is given at once; at about a million of them it breaks off"""

GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""GPT-2's splitting pattern, in tiktoken's equivalent and faster writing (r50k_pat_str)"""


def byte_characters() -> dict[int, str]:
    """The printable character that stands for a byte in both files, by byte, in the order of GPT-2's ids.

    A printable Latin-1 character other than space stands for itself; the 68 other bytes are U+0100, U+0101, ...
    """
    printable = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


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
