"""Commands as a user types them in a shell: for messages that say what to type, and for the records of runs."""

import shlex
import sys
from pathlib import Path

COMMANDS = ("train", "prepare", "eval", "sample", "export", "report", "explain")
SCRIPTS = {f"{name}.py" for name in COMMANDS}
"""the entry points of a checkout; an installed package has the program ``gpt2lab`` instead"""


def typed_command(name: str, program: str | None = None) -> list[str]:
    """What a user types to run the command ``name``, without its arguments.

    Args:
        name: of the command.
        program: what the user started; None: this process. ``train.py`` has ``prepare.py`` beside it.
    """
    path = Path(sys.argv[0] if program is None else program)
    return ["python", str(path.with_name(f"{name}.py"))] if path.name in SCRIPTS else ["gpt2lab", name]


def command_line(name: str, *arguments: str) -> str:
    """A whole command with every word quoted for the shell."""
    return " ".join(map(shell_word, [*typed_command(name), *arguments]))


def shell_word(word: str) -> str:
    """A word quoted for bash or zsh, without a line break in it."""
    if word.isprintable():
        return shlex.quote(word)
    escapes = {"\\": r"\\", "'": r"\'", "\n": r"\n", "\t": r"\t"}
    escapes |= {c: f"\\U{ord(c):08x}" for c in word if not c.isprintable() and c not in escapes}
    return f"$'{''.join(escapes.get(c, c) for c in word)}'"
