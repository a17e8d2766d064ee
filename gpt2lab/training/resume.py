"""Where a run starts: fresh, from a checkpoint (``resume``), or from another run's weights (``init_from``)."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2lab.checkpoint import list_checkpoints, newest_complete, read_manifest
from gpt2lab.config import ModelConfig, TrainJob, UserError, from_dict, to_dict
from gpt2lab.data import Manifest
from gpt2lab.runs import newest_started_run
from gpt2lab.runs.layout import CHECKPOINTS
from gpt2lab.training.trainer import Trainer
from gpt2lab.weights import find_checkpoint
from gpt2lab.weights.loading import require_same_model

ORDER_KEYS = (
    "seed=",
    "training.batch_tokens=",
    "training.sequence_length=",
    "data.packing=",
    "data.document_masking=",
)
"""settings that the data order and the token count are functions of"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """The answer to ``resume`` and ``run_dir``."""

    run_dir: Path | None
    """folder to work in; None: a new one"""
    checkpoint: Path | None
    """state to continue from; None: step 0"""


def find_start(job: TrainJob, run_dir: Path | None) -> Start:
    """Decide where the run starts, given the folder it is to work in (None: not decided).

    Raises:
        UserError: ``run_dir`` holds checkpoints and ``resume`` is not set, there is nothing at ``resume``, or what is
            there would be mixed with another run's record.
    """
    if run_dir and run_dir.exists() and not run_dir.is_dir():
        raise UserError(f"run_dir={run_dir} is a file: name a folder, or one that is yet to be made")
    if not job.resume:
        if run_dir and list_checkpoints(run_dir / CHECKPOINTS):
            raise UserError(
                f"run_dir={run_dir} holds checkpoints: add resume=auto to continue that run, or name another folder"
            )
        return Start(run_dir, None)
    if job.resume == "auto":
        candidate = run_dir or newest_started_run()
        return _newest_start(candidate) if candidate else Start(None, None)
    checkpoint = find_checkpoint(job.resume, "resume")
    own = checkpoint.parent.parent
    run_dir = run_dir or own
    newest = next(iter(list_checkpoints(run_dir / CHECKPOINTS)), checkpoint)
    if newest.resolve() != checkpoint and (run_dir.resolve() != own or newest.name > checkpoint.name):
        raise UserError(
            f"resume={job.resume}: {run_dir} holds {newest.name} besides: add run_dir= with a new folder to branch "
            "off, or type resume=auto to continue from the newest"
        )
    return Start(run_dir, checkpoint)


def _newest_start(run_dir: Path) -> Start:
    complete = newest_complete(run_dir / CHECKPOINTS)
    if complete is None and list_checkpoints(run_dir / CHECKPOINTS):
        raise UserError(
            f"{run_dir}: none of its checkpoints can be used (see above): name another run_dir to start afresh"
        )
    if complete is None:
        log.info("resume=auto: no checkpoint in %s yet, starting at step 0", run_dir)
    return Start(run_dir, complete)


def resume(trainer: Trainer, job: TrainJob, checkpoint: Path, manifest: Manifest) -> None:
    """Bring a freshly built trainer to the state of a checkpoint.

    Raises:
        UserError: the checkpoint is damaged, of another architecture, or was trained on other data.
    """
    saved = read_manifest(checkpoint)
    require_same_model(from_dict(ModelConfig, saved["config"]["model"]), job.model, checkpoint, free=("dropout",))
    if saved["data_fingerprint"] != manifest.fingerprint:
        difference = (
            f"{checkpoint} was trained on data {saved['data_fingerprint'][:12]}, this set is "
            f"{manifest.fingerprint[:12]}"
        )
        if not job.ignore_data_fingerprint:
            raise UserError(
                f"{difference}: restore that set, take the weights alone with init_from=, or go on with this one by "
                "ignore_data_fingerprint=true"
            )
        log.warning("%s: going on with it; what was held out before may now be trained on", difference)
    differences = _differences(saved["config"], to_dict(job))
    for difference in differences:
        if difference.startswith(ORDER_KEYS):
            raise UserError(
                f"{checkpoint}: {difference}: with it the data would not go on where it stopped; resume with the old "
                "value, or take the weights alone with init_from="
            )
    for difference in differences:
        log.warning("resumed with another setting: %s", difference)
    if (precision := trainer.runtime.precision) != saved["precision"]:
        log.warning("resumed in another number format: precision %s (was %s)", precision, saved["precision"])
    own_run_id = trainer.progress.run_id
    trainer.checkpoints.load(checkpoint)
    if trainer.metrics.path.parent.resolve() != checkpoint.resolve().parent.parent:
        trainer.progress.run_id = own_run_id  # a branch is a run of its own
    log.info("resumed from %s at step %d", checkpoint, trainer.progress.step)


def _differences(saved: dict[str, Any], current: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted(saved.keys() | current.keys()):
        old, new = saved.get(key), current.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _differences(old, new, f"{prefix}{key}.")
        elif old != new and f"{prefix}{key}" not in ("resume", "run_dir", "init_from"):
            lines.append(f"{prefix}{key}={new} (was {old})")
    return lines
