"""Configurations as plain values, for YAML, JSON and checkpoints."""

import dataclasses
import typing
from typing import Any, TypeVar

from gpt2lab.config.errors import UserError, did_you_mean

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """A config as nested plain values, ready for YAML, JSON or a checkpoint."""
    return dataclasses.asdict(config)


def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """Rebuild a config (and so check it again) from ``to_dict``'s output; an unknown key is a ``UserError``.

    A class with several kinds has a method ``class_of``, which chooses the kind from the values.
    """
    if class_of := getattr(cls, "class_of", None):
        cls = class_of(values)
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UserError(f"{cls.__name__}: unknown key {unknown[0]}{did_you_mean(unknown[0], hints)}")
    return cls(**{key: _rebuild(hints[key], value) for key, value in values.items()})


def _rebuild(hint: Any, value: Any) -> Any:
    """``value`` as ``hint`` says: a config, a list of configs, or the plain value that it is."""
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    item = next(iter(typing.get_args(hint)), None)
    if typing.get_origin(hint) is list and dataclasses.is_dataclass(item):
        return [from_dict(typing.cast(type, item), part) for part in value]
    return value
