"""Reads a Hugging Face config.json key by key; a value of the wrong kind is a ``UserError`` that names the file.

An absent key and null mean the same, as in ``transformers``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from gpt2lab.config import UserError
from gpt2lab.files import read_json

CONFIG_JSON = "config.json"

Value = TypeVar("Value")


class ConfigJson:
    """The settings of one model."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = read_json(path)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key."""
        value = self.values.get(key)
        return default if value is None else value

    def whole(self, *spellings: str) -> int:
        """Return the whole number of at least 1 under the first of these keys that is present."""
        key = next((key for key in spellings if self.get(key) is not None), None)
        if key is None:
            raise UserError(f"{self.path}: {' or '.join(spellings)} is missing: expected a whole number")
        return self.whole_or_none(key) or self.refuse(key, self.get(key), "a whole number of at least 1")

    def whole_or_none(self, key: str) -> int | None:
        """Return the whole number of at least 1 under this key; None if the key is absent."""
        value = self.get(key)
        if value is None or (type(value) is int and value >= 1):
            return value
        return self.refuse(key, value, "a whole number of at least 1")

    def number(self, key: str, default: float) -> float:
        """Return the number under this key."""
        value = self.get(key, default)
        return float(value) if type(value) in (int, float) else self.refuse(key, value, "a number")

    def switch(self, key: str, *, default: bool) -> bool:
        """Return the true or false under this key."""
        value = self.get(key, default)
        return value if isinstance(value, bool) else self.refuse(key, value, "true or false")

    def choice(self, key: str, known: Mapping[str, Value], default: str) -> Value:
        """Return the value in ``known`` for the name under this key."""
        name = self.get(key, default)
        if not isinstance(name, str) or name not in known:
            self.refuse(key, name, " or ".join(known))
        return known[name]

    def require(self, key: str, *, expected: Any, absent: Any = None) -> None:
        """Refuse any value but ``expected``; an absent key means ``absent``, or ``expected`` if that is None."""
        value = self.get(key, expected if absent is None else absent)
        if value != expected:
            self.refuse(key, value, json.dumps(expected) + ", gpt2lab has nothing else")

    def refuse(self, key: str, value: Any, expected: str) -> NoReturn:
        """Raise the ``UserError`` of one key."""
        shown = json.dumps(value)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
        raise UserError(f"{self.path}: {key}={shown}: expected {expected}")

    def rope(self, default_fraction: float, theta_key: str, fraction_key: str) -> tuple[float, float]:
        """Return base and rotated fraction of plain RoPE; scaled forms are refused.

        ``transformers`` 5 writes one group, ``rope_parameters``. Before it there were ``rope_scaling`` (null for plain
        RoPE) and a key each for base and fraction, whose names are the arguments: GPT-NeoX does not read Llama's.
        """
        group_key = "rope_scaling" if self.get("rope_scaling") else "rope_parameters"
        group = self.get(group_key, {})
        if not isinstance(group, dict):
            self.refuse(group_key, group, "a group of settings")
        for key, value in group.items():
            if key in ("rope_type", "type"):
                known = value in (None, "default")
            else:
                known = key in ("rope_theta", "partial_rotary_factor")
            if not known:
                self.refuse(
                    f"{group_key}.{key}", value, 'plain rope ("rope_type": "default"), scaled forms are not read'
                )
        in_group = {key: value for key, value in group.items() if value is not None}
        theta = in_group.get("rope_theta", self.get(theta_key, 10_000.0))
        fraction = in_group.get("partial_rotary_factor", self.get(fraction_key, default_fraction))
        for key, value in (("rope_theta", theta), ("partial_rotary_factor", fraction)):
            if type(value) not in (int, float):
                self.refuse(key, value, "a number")
        return float(theta), float(fraction)
