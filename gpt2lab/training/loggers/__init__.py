"""Copies of the record for dashboards: ``LOGGERS[name](LoggerConfig, RunIdentity)``.

``metrics.jsonl`` is the truth; a logger is told the same lines. One that fails is dropped with a warning, and the run
goes on without it.
"""

import json
import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Literal, cast

from gpt2lab.config import LoggerConfig

log = logging.getLogger(__name__)

Line = dict[str, Any]


@dataclass(frozen=True)
class RunIdentity:
    """What a dashboard shows of a run beside its figures."""

    run_dir: Path
    config: dict[str, Any]
    """the resolved configuration, nested plain values"""


class Logger(ABC):
    """One dashboard's view of a run."""

    def __init__(self, config: LoggerConfig, run: RunIdentity) -> None:
        self.config, self.run = config, run

    @abstractmethod
    def start(self, run_id: str, history: Sequence[Line], samples: Sequence[Line]) -> None:
        """Open the run of this name.

        Args:
            run_id: the same in all processes that a run has, one after another.
            history: the lines up to the step that a resumed run goes on from.
            samples: the same for samples.
        """

    @abstractmethod
    def log(self, line: Line) -> None:
        """Show one line: ``step``, ``tokens`` and figures by name."""

    @abstractmethod
    def log_samples(self, samples: Sequence[Line]) -> None:
        """Show text drawn after a step: ``step``, ``prompt`` and ``text`` each."""

    @abstractmethod
    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """Show the final figures (``status`` among them) and close the run."""


class WandbLogger(Logger):
    """Weights & Biases; offline without a key, so that nothing is ever asked.

    Offline, each process of a resumed run writes the whole history anew and takes the place of the earlier copy, so
    that a step that was taken twice is there once; online, steps that the server already has are not sent again: a
    rerun gives the same figures.
    """

    def start(self, run_id: str, history: Sequence[Line], samples: Sequence[Line]) -> None:
        """See ``Logger.start``."""
        import wandb  # noqa: PLC0415

        mode = os.environ.get("WANDB_MODE") or ("online" if has_wandb_key() else "offline")
        if mode == "offline":
            folder = self.run.run_dir / "wandb"
            log.info("W&B is offline (no key, or WANDB_MODE); to upload, type wandb sync %s/offline-run-*", folder)
            for earlier in folder.glob("offline-run-*"):
                shutil.rmtree(earlier)
        self.wandb_run = wandb.init(
            project=self.config.project,
            id=run_id,
            resume="allow",
            mode=cast(Literal["online", "offline", "disabled"], mode),
            dir=self.run.run_dir,
            name=self.run.run_dir.name,
            group=self.config.group,
            job_type="train",
            tags=self.config.tags,
            config=self.run.config,
            settings=wandb.Settings(console="off", silent=True),
        )
        self.wandb_run.define_metric("*", step_metric="step")
        self.sent_up_to = int(self.wandb_run.summary.get("step") or 0)
        self.samples = list(samples)
        for line in history:
            self.log(line)

    def log(self, line: Line) -> None:
        """See ``Logger.log``."""
        if line["step"] > self.sent_up_to:
            self.wandb_run.log(line)

    def log_samples(self, samples: Sequence[Line]) -> None:
        """Kept for the table, which W&B takes as a whole, at the end."""
        self.samples += samples

    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """See ``Logger.finish``."""
        import wandb  # noqa: PLC0415

        self.wandb_run.summary.update(summary)
        if self.samples:
            columns: list[str | int] = ["step", "prompt", "text"]
            rows = [[line[str(column)] for column in columns] for line in self.samples]
            self.wandb_run.summary["samples"] = wandb.Table(columns=columns, data=rows)
        for plot in plots:
            self.wandb_run.summary[plot.stem] = wandb.Image(str(plot))
        self.wandb_run.finish(exit_code=0 if summary["status"] == "completed" else 1)


class TensorBoardLogger(Logger):
    """Event files in ``tensorboard/`` of the run folder; a resumed run writes its whole history anew."""

    def start(self, run_id: str, history: Sequence[Line], samples: Sequence[Line]) -> None:
        """See ``Logger.start``."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        folder = self.run.run_dir / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = SummaryWriter(folder)
        self.writer.add_text("config", f"```json\n{json.dumps(self.run.config, indent=2)}\n```")
        for line in history:
            self.log(line)
        self.log_samples(samples)

    def log(self, line: Line) -> None:
        """See ``Logger.log``."""
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float):
                self.writer.add_scalar(name, value, line["step"])

    def log_samples(self, samples: Sequence[Line]) -> None:
        """See ``Logger.log_samples``."""
        for line in samples:
            self.writer.add_text("sample", f"```\n{line['prompt']}{line['text']}\n```", line["step"])

    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """See ``Logger.finish``."""
        self.writer.add_text("summary", f"```json\n{json.dumps(summary, indent=2)}\n```")
        self.writer.close()


LOGGERS: dict[str, Callable[[LoggerConfig, RunIdentity], Logger]] = {
    "wandb": WandbLogger,
    "tensorboard": TensorBoardLogger,
}


class Guarded(Logger):
    """A logger whose failures end it, not the run."""

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
            log.warning("logger %s is off: %s; type pip install 'gpt2lab[%s]'", self.name, error, self.name)
        except Exception as error:  # whatever a dashboard does, the run is worth more
            self.alive = False
            log.warning("logger %s failed and is off from here on (metrics.jsonl has everything): %s", self.name, error)


def has_wandb_key() -> bool:
    """Whether W&B could log in without asking."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False
