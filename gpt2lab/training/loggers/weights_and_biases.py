"""Weights & Biases, offline without a key so that it never asks for one. See docs/logging.md."""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Literal, cast

from gpt2lab.runs.layout import WANDB
from gpt2lab.runs.records import COMPLETED
from gpt2lab.training.loggers.base import Line, Logger, prefixed

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]

FORMER_MODES = {"dryrun": "offline", "run": "online"}
"""values of ``WANDB_MODE`` that W&B still takes"""
EVALUATION_MARK = "evaluation"
"""empty file in the folder of an offline run that an evaluation wrote"""


class WandbLogger(Logger):
    """One W&B run per run directory.

    Offline, each process of a resumed run writes the whole history anew and replaces the earlier files, so that a step
    that was taken twice is there once; the files of evaluations stay. Online, steps that the server already has are not
    sent again: resumed steps are bit-exact, so they have the same metrics.
    """

    def start(self, run_id: str, history: Sequence[Line], samples: Sequence[Line]) -> None:
        """See ``Logger.start``."""
        mode, folder = wandb_mode(), self.run.run_dir / WANDB
        if mode == "offline":
            log.info("W&B is offline; to upload this run later: wandb login, then wandb sync %s/offline-run-*", folder)
            for earlier in folder.glob("offline-run-*"):
                if not (earlier / EVALUATION_MARK).exists():
                    shutil.rmtree(earlier)
        self.wandb_run = open_wandb_run(
            self.run.run_dir,
            run_id,
            mode,
            project=self.config.project,
            name=self.run.display_name,
            group=self.run.group,
            tags=list(self.run.tags),
            job_type="train",
            config={**self.run.config, "resolved": self.run.resolved},
        )
        self.wandb_run.define_metric("*", step_metric="step")
        self.sent_up_to = int(self.wandb_run.summary.get("step") or 0)
        self.samples: list[Line] = []
        by_step: dict[int, list[Line]] = {}
        for sample in samples:
            by_step.setdefault(sample["step"], []).append(sample)
        for line in history:
            self.log(line)
            if by_step.get(line["step"]) and "val_loss" in line:  # samples follow a validation
                self.log_samples(by_step.pop(line["step"]))

    def log(self, line: Line) -> None:
        """See ``Logger.log``."""
        if line["step"] > self.sent_up_to:
            self.wandb_run.log({prefixed(name): value for name, value in line.items()})

    def log_samples(self, samples: Sequence[Line]) -> None:
        """See ``Logger.log_samples``; the history gets a table for each step, the end one of all samples."""
        self.samples += samples
        if samples and samples[0]["step"] > self.sent_up_to:
            self.wandb_run.log({"step": samples[0]["step"], "samples": _table(samples)})

    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """See ``Logger.finish``."""
        import wandb  # noqa: PLC0415

        media: dict[str, Any] = {f"plots/{plot.stem}": wandb.Image(str(plot)) for plot in plots}
        if self.samples:
            media["all_samples"] = _table(self.samples)
        if media:
            self.wandb_run.log({"step": summary.get("steps", 0), **media})
        self.wandb_run.summary.update(summary)
        self.wandb_run.finish(exit_code=0 if summary["status"] == COMPLETED else 1)


def log_evaluation(run_dir: Path, run_id: str, project: str, metrics: Mapping[str, float]) -> None:
    """Add an evaluation to the W&B run of a training run that has ended; its metrics are named ``eval/...``.

    Offline this leaves a folder of its own with the same run id beside that of the training, and both are uploaded by
    the same command.
    """
    mode = wandb_mode()
    wandb_run = open_wandb_run(run_dir, run_id, mode, project=project)
    if mode == "offline":
        (Path(wandb_run.dir).parent / EVALUATION_MARK).touch()
    wandb_run.summary.update({f"eval/{name}": value for name, value in metrics.items()})
    wandb_run.finish()


def open_wandb_run(run_dir: Path, run_id: str, mode: Mode, **settings: Any) -> Any:
    """Open the W&B run of this id, without output and without a prompt."""
    import wandb  # noqa: PLC0415

    return wandb.init(
        id=run_id,
        resume="allow",
        mode=mode,
        dir=run_dir,
        settings=wandb.Settings(console="off", silent=True),
        **settings,
    )


def wandb_mode() -> Mode:
    """``WANDB_MODE`` if it is set, by its present name; else online with a key and offline without."""
    given = os.environ.get("WANDB_MODE") or ("online" if has_wandb_key() else "offline")
    return cast(Mode, FORMER_MODES.get(given, given))


def has_wandb_key() -> bool:
    """Whether W&B can log in without asking."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False


def _table(samples: Sequence[Line]) -> Any:
    import wandb  # noqa: PLC0415

    columns: list[str | int] = ["step", "prompt", "text"]
    return wandb.Table(columns=columns, data=[[line[str(column)] for column in columns] for line in samples])
