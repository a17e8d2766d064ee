"""Commands as a user types them in a shell, for messages that say what to type."""

import shlex
import sys
from pathlib import Path

COMMANDS = ("train", "prepare", "eval", "sample", "export", "report", "explain")
SCRIPTS = {f"{name}.py" for name in COMMANDS}
"""the entry points of a checkout; an installed package has the program ``gpt2lab`` instead"""


def command_line(name: str, *arguments: str) -> str:
    """What a user types to run the command ``name``, with every word quoted for the shell.

    It is named as this process was started: beside ``/folder/eval.py`` there is ``/folder/prepare.py``.
    """
    path = Path(sys.argv[0])
    program = ["python", str(path.with_name(f"{name}.py"))] if path.name in SCRIPTS else ["gpt2lab", name]
    return " ".join(map(shell_word, [*program, *arguments]))


def shell_word(word: str) -> str:
    """A word quoted for bash or zsh, without a line break in it."""
    if word.isprintable():
        return shlex.quote(word)
    escapes = {"\\": r"\\", "'": r"\'", "\n": r"\n", "\t": r"\t"}
    escapes |= {c: f"\\U{ord(c):08x}" for c in word if not c.isprintable() and c not in escapes}
    return f"$'{''.join(escapes.get(c, c) for c in word)}'"
