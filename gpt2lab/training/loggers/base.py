"""What every logger does, and the wrapper that keeps a failing one from stopping the run."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2lab.config import LoggerConfig, one_line

log = logging.getLogger(__name__)

Line = dict[str, Any]


@dataclass(frozen=True)
class RunIdentity:
    """What a dashboard shows of a run beside its metrics."""

    run_dir: Path
    config: dict[str, Any]
    """the configuration as nested plain values"""
    resolved: dict[str, Any] = field(default_factory=dict)
    """what null and auto in it stood for: learning rate, device, precision, ..."""
    name: str | None = None
    """None: the run directory's name"""
    group: str | None = None
    tags: Sequence[str] = ()

    @property
    def display_name(self) -> str:
        """The name of the run in a list of runs."""
        return self.name or self.run_dir.name


class Logger(ABC):
    """One dashboard's view of a run."""

    def __init__(self, config: LoggerConfig, run: RunIdentity) -> None:
        self.config, self.run = config, run

    @abstractmethod
    def start(self, run_id: str, history: Sequence[Line], samples: Sequence[Line]) -> None:
        """Open the run.

        Args:
            run_id: the same in all processes that work on a run one after another.
            history: the lines of ``metrics.jsonl`` up to the step that a resumed run continues from.
            samples: the same for ``samples.jsonl``.
        """

    @abstractmethod
    def log(self, line: Line) -> None:
        """Show one line: ``step``, ``tokens`` and metrics by name."""

    @abstractmethod
    def log_samples(self, samples: Sequence[Line]) -> None:
        """Show text generated after a step: ``step``, ``prompt`` and ``text`` each."""

    @abstractmethod
    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """Show the content of ``summary.json`` and the plots, and close the run."""


def prefixed(name: str) -> str:
    """A metric's name on a dashboard: ``val/loss`` for ``val_loss``, ``train/lr`` for ``lr``.

    ``step``, ``tokens``, and names that have a prefix already stay.
    """
    if name in ("step", "tokens") or "/" in name:
        return name
    return f"val/{name.removeprefix('val_')}" if name.startswith("val_") else f"train/{name}"


class Guarded(Logger):
    """Wraps a logger: when it fails, a warning says so, it is not called again, and the run continues."""

    def __init__(self, name: str, inner: Logger) -> None:
        super().__init__(inner.config, inner.run)
        self.name, self.inner, self.alive = name, inner, True

    def start(self, run_id: str, history: Sequence[Line], samples: Sequence[Line]) -> None:
        """See ``Logger.start``."""
        self._call(self.inner.start, run_id, history, samples)

    def log(self, line: Line) -> None:
        """See ``Logger.log``."""
        self._call(self.inner.log, line)

    def log_samples(self, samples: Sequence[Line]) -> None:
        """See ``Logger.log_samples``."""
        self._call(self.inner.log_samples, samples)

    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """See ``Logger.finish``."""
        self._call(self.inner.finish, summary, plots)

    def _call(self, method: Callable[..., None], *arguments: object) -> None:
        if not self.alive:
            return
        try:
            method(*arguments)
        except ModuleNotFoundError as error:
            self.alive = False
            log.warning("logger %s is off: %s; type pip install %s", self.name, error, self.name)
        except Exception as error:  # no failure of a dashboard may stop the run
            self.alive = False
            reason = one_line(error)
            log.warning("logger %s failed and is off from now on (metrics.jsonl has everything): %s", self.name, reason)
