"""The base of every configuration: a number, a switch or a group of settings is one, whoever built the object.

Values from YAML and the command line are checked by ``from_dict``, under their whole key. Python code gives fields by
name, and without this check a wrong one would be an exception of the arithmetic that meets it, or ``bias="no"`` true.
"""

import dataclasses
import functools
import numbers
import types
import typing
from collections.abc import Iterator
from typing import Any

from gpt2lab.config.errors import check

KINDS: dict[type, tuple[type, str]] = {
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    bool: (bool, "True or False"),
}
"""what a field may hold, by the type of its hint; numpy's numbers are numbers, too"""


class CheckedConfig:
    """Its dataclasses check the types of their values before their own ``__post_init__``."""

    def __post_init__(self) -> None:
        for name, kind, optional in _checked_fields(type(self)):
            value, (accepted, expected) = getattr(self, name), KINDS.get(kind, (kind, f"{kind.__name__}(...)"))
            fits = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
            check(fits or (optional and value is None), name, value, f"{expected}{', or None' if optional else ''}")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = cls.__dict__.get("__post_init__")
        if own is not None:

            @functools.wraps(own)
            def checked(self: CheckedConfig) -> None:
                CheckedConfig.__post_init__(self)
                own(self)

            cls.__post_init__ = checked  # type: ignore[method-assign]


def _checked_fields(config_class: Any) -> Iterator[tuple[str, type, bool]]:
    """The fields that take a number, a switch or another config: name, kind, and whether they may be None."""
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        is_checked = [kind for kind in kinds if kind in KINDS or dataclasses.is_dataclass(kind)]
        yield from ((field.name, kind, type(None) in kinds) for kind in is_checked)
