"""Tokens as they are shown: nothing invisible, nothing that changes how the text around it is laid out."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from gpt2lab.tokenizers import Tokenizer

CONTROL_PICTURES = 0x2400
"""the symbol of control character n stands here + n"""
SYMBOLS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\x7f": "␡"}


class TokenText(NamedTuple):
    """One token."""

    id: int
    label: str
    """its text, with symbols for spaces and control characters; hexadecimal where it is only part of a character"""
    hex: str
    """its bytes"""


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[TokenText]:
    """Return the tokens as they are shown."""
    content = [tokenizer.decode_bytes([token]) for token in ids]
    return [TokenText(token, label(raw), raw.hex(" ")) for token, raw in zip(ids, content, strict=True)]


def label(content: bytes) -> str:
    """Return a token's text with everything invisible made visible."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in content)
    return "".join(map(_visible, text)) or "∅"


def _visible(character: str) -> str:
    if character in SYMBOLS:
        return SYMBOLS[character]
    if ord(character) < 32:
        return chr(CONTROL_PICTURES + ord(character))
    # format characters would reorder the page's text, other spaces would not be seen, marks need a letter to sit on
    if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Zs", "Zl", "Zp"):
        return f"\\u{ord(character):04x}"
    return f"◌{character}" if unicodedata.category(character).startswith("M") else character
