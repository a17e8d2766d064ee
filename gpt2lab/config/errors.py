"""What a user is told about a wrong value, and the checks that tell it."""

import difflib
import signal
import typing
from typing import TypeVar

Choice = TypeVar("Choice")

MOST_PROCESSES = 1024
"""that are started on one machine"""


class UserError(ValueError):
    """An error that the user can fix; the message is one line: the value, what was expected, what to type."""


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
"""ask a run to save and end: kill, Ctrl-C, SLURM's warning, a closed terminal"""


def stop_signals() -> list[signal.Signals]:
    """``STOP_SIGNALS`` without SIGHUP where it is ignored, as under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in STOP_SIGNALS if not (ignored and number == signal.SIGHUP)]


class StoppedError(Exception):
    """A run was stopped by a signal and has saved its state."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal = signal_number


class RankFailedError(RuntimeError):
    """A process of the run ended with an error, and the others were ended with it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        """exit status of that process"""


def choose(registry: typing.Mapping[str, Choice], name: str, key: str) -> Choice:
    """Look ``name`` up in a registry of variants; ``key`` is the setting to blame when it is not there."""
    check_name(name, registry, key)
    return registry[name]


def check_name(name: str, known: typing.Collection[str], key: str) -> None:
    """Raise ``UserError`` unless ``name``, the value of ``key``, is one of ``known``."""
    if not isinstance(name, str) or name not in known:
        raise UserError(f"{key}={name}: expected one of {', '.join(known)}{did_you_mean(name, known)}")


def not_installed(setting: str, package: str, requirement: str) -> UserError:
    """The error line for a package that ``setting`` needs; ``requirement`` is what pip installs it by."""
    return UserError(f"{setting}: the package {package} is not installed: type pip install {requirement}")


def did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    """The end of an error line: the nearest known spelling, or nothing."""
    spellings = {spelling.lower(): spelling for spelling in known}
    nearest = difflib.get_close_matches(str(name).lower(), spellings, n=1)
    return f"; did you mean {spellings[nearest[0]]}?" if nearest else ""


def check(condition: bool, key: str, value: object, expected: str) -> None:
    """Raise ``UserError`` naming ``key``, ``value`` and what was expected unless ``condition`` holds."""
    if not condition:
        raise UserError(f"{key}={value}: expected {expected}")


def check_kind(value: object, kind: type, key: str, maker: str) -> None:
    """Raise ``UserError`` unless ``value`` is a ``kind``; ``maker`` is the Python code that makes one."""
    check(isinstance(value, kind), key, type(value).__name__, f"a {kind.__name__}; try {maker}")


def check_divides(key: str, divisor: int, dividend_key: str, dividend: int) -> None:
    """Raise ``UserError`` naming the nearest divisors unless ``divisor`` divides ``dividend``."""
    if dividend % divisor:
        fitting = [n for n in range(1, dividend + 1) if dividend % n == 0]
        nearest = sorted(sorted(fitting, key=lambda n: abs(n - divisor))[:3])
        raise UserError(
            f"{dividend_key}={dividend} is not divisible by {key}={divisor}: "
            f"{key}={' or '.join(map(str, nearest))} would divide it"
        )


def one_line(error: BaseException) -> str:
    """Return an error's message with its line breaks folded."""
    return " ".join(str(error).split())
