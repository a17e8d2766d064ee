"""Configurations as plain values, for YAML, JSON and checkpoints."""

import dataclasses
import math
import re
import types
import typing
from typing import Any, TypeVar

from gpt2lab.config.errors import UserError, did_you_mean

Config = TypeVar("Config")

LARGEST_INT = 2**63
EXPECTED: dict[Any, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number, below 2**63",
    float: "a finite number",
}
"""what an error line asks for, by type"""


def to_dict(config: Any) -> dict[str, Any]:
    """A config as nested plain values, ready for YAML, JSON or a checkpoint."""
    return dataclasses.asdict(config)


def from_dict(cls: type[Config], values: dict[str, Any], key: str = "") -> Config:
    """Rebuild a config (and so check it again) from ``to_dict``'s output.

    A class with several kinds has a method ``class_of``, which chooses the kind from the values.

    Args:
        cls: its class.
        values: its fields by name.
        key: dotted key of the config within a larger one, for error lines.

    Raises:
        UserError: an unknown key, or a value of another type; numbers must be finite.
    """
    if not isinstance(values, dict):
        raise UserError(f"{key or cls.__name__}={values}: expected several settings; try one of them, {key}.NAME=VALUE")
    if class_of := getattr(cls, "class_of", None):
        cls = class_of(values)
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints), key=str)
    if unknown:
        raise UserError(f"{f'{key}.{unknown[0]}'.strip('.')}: unknown key{did_you_mean(str(unknown[0]), hints)}")
    rebuilt = {name: _rebuild(hints[name], value, f"{key}.{name}".strip(".")) for name, value in values.items()}
    try:
        return cls(**rebuilt)
    except UserError as error:
        own_key = getattr(cls, "own_key", key)
        if own_key == key:
            raise
        raise UserError(re.sub(rf"(?<![\w.]){own_key}\.", f"{key}.", str(error))) from None


def _rebuild(hint: Any, value: Any, key: str) -> Any:
    """``value`` as ``hint`` says: a config, a list of configs, or the plain value that it is."""
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, key)
    items = typing.get_args(hint)
    if isinstance(hint, types.UnionType):  # ``X | None``
        return None if value is None else _rebuild(items[0], value, key)
    if typing.get_origin(hint) is list and isinstance(value, list | tuple):
        return [_rebuild(items[0], part, key) for part in value]
    if typing.get_origin(hint) is dict and isinstance(value, dict):
        return {_rebuild(items[0], name, key): _rebuild(items[1], part, key) for name, part in value.items()}
    if hint in EXPECTED and not _is_a(hint, value):
        raise UserError(f"{key}={value}: expected {EXPECTED[hint]}")
    if typing.get_origin(hint) in (list, dict):
        raise UserError(f"{key}={value}: expected a {typing.get_origin(hint).__name__}")
    return value


def _is_a(kind: type, value: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and -LARGEST_INT <= value < LARGEST_INT
    return isinstance(value, kind)
