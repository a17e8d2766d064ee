"""What stands in a setting for something else: a backslash and a letter, and ``~``.

A shell's quotes hold no line break or tab, so ``stop`` of sample.py and ``data.delimiter`` are typed with a backslash
and a letter. A shell leaves the ``~`` of ``data.root=~/data`` as it is.
"""

import os.path
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


def expand_home(path: str) -> str:
    """Return ``path`` with the home folder in place of ``~`` or ``~user`` at its beginning; other names stay."""
    return os.path.expanduser(path)  # noqa: PTH111 (Path's method raises where there is no such user)
