"""Lets Hydra 1.3 build its parser of arguments on Python 3.14."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def lazy_help_is_not_checked() -> Iterator[None]:
    """Within it, an argument gets a help that is not a string only after argparse has added the argument.

    Since Python 3.14 argparse formats each help as the argument is added. One of Hydra's is an object that becomes a
    string when it is shown, so that Hydra would end there (https://github.com/facebookresearch/hydra/issues/3121).
    Earlier versions of Python accept the object; the detour is taken there, too, so that their tests cover it.
    """
    parser_class: Any = argparse.ArgumentParser
    add = parser_class.add_argument

    def add_argument(parser: argparse.ArgumentParser, *names: str, **settings: Any) -> argparse.Action:
        shown = settings.get("help")
        if shown is None or isinstance(shown, str):
            return add(parser, *names, **settings)
        action: argparse.Action = add(parser, *names, **(settings | {"help": None}))
        action.help = shown
        return action

    parser_class.add_argument = add_argument
    try:
        yield
    finally:
        parser_class.add_argument = add
