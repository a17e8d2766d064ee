"""Line breaks and tabs in a setting, which stand in it as a backslash and a letter.

A shell's quotes hold no line break, so ``stop`` of sample.py and ``data.delimiter`` are typed with these.
"""

import re

ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
"""what stands for a character after a backslash"""


def unescape(text: str) -> str:
    """Return ``text`` with the characters that ``ESCAPES`` stand for; any other backslash stays."""
    return re.sub(r"\\([nrt\\])", lambda escape: ESCAPES[escape[1]], text)


def escape(text: str) -> str:
    """Return what is typed for ``text``, the inverse of ``unescape``."""
    names = {character: f"\\{name}" for name, character in ESCAPES.items()}
    return "".join(names.get(character, character) for character in text)
