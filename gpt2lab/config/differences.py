"""Settings that differ between two configurations."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """A setting whose value differs between the saved run and this one."""

    key: str
    saved: Any
    current: Any

    def __str__(self) -> str:
        return f"{self.key}={_shown(self.current)} (was {_shown(self.saved)})"


def _shown(value: Any) -> Any:
    """A value on one line."""
    return repr(value) if isinstance(value, str) and not value.isprintable() else value


def differences(saved: dict[str, Any], current: dict[str, Any], prefix: str = "") -> list[Difference]:
    """The settings that differ between two configurations given as nested plain values, with dotted keys."""
    found = []
    for name in sorted(saved.keys() | current.keys()):
        key, old, new = f"{prefix}{name}", saved.get(name), current.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{key}.")
        elif old != new:
            found.append(Difference(key, old, new))
    return found
