"""Where a run starts: fresh, from a checkpoint (``resume``), or from another run's weights (``init_from``)."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2lab.checkpoint import list_checkpoints, newest_complete, read_manifest
from gpt2lab.config import TrainJob, UserError, to_dict
from gpt2lab.data import Manifest
from gpt2lab.training.trainer import Trainer
from gpt2lab.weights import find_checkpoint, newest_run
from gpt2lab.weights.native import RUNS, require_same_model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """The answer to ``resume`` and ``run_dir``."""

    run_dir: Path | None
    """folder to work in; None: a new one"""
    checkpoint: Path | None
    """state to continue from; None: step 0"""


def find_start(job: TrainJob) -> Start:
    """Decide where the run starts.

    Raises:
        UserError: ``run_dir`` holds checkpoints and ``resume`` is not set, or there is nothing at ``resume``.
    """
    run_dir = Path(job.run_dir) if job.run_dir else None
    if run_dir and run_dir.exists() and not run_dir.is_dir():
        raise UserError(f"run_dir={run_dir} is a file: name a folder, or one that is yet to be made")
    if job.resume is None:
        if run_dir and list_checkpoints(run_dir / "checkpoints"):
            raise UserError(
                f"run_dir={run_dir} holds checkpoints: add resume=auto to continue that run, or name another folder"
            )
        return Start(run_dir, None)
    if job.resume != "auto":
        checkpoint = find_checkpoint(job.resume)
        run_dir = run_dir or checkpoint.parent.parent
        newest = next(iter(list_checkpoints(run_dir / "checkpoints")), checkpoint)
        if newest.name > checkpoint.name:
            raise UserError(
                f"resume={job.resume} is older than {newest.name} in {run_dir}: add run_dir= with a new folder to "
                "branch off there, or type resume=auto to continue from the newest"
            )
        return Start(run_dir, checkpoint)
    candidate = run_dir or newest_run(RUNS)
    complete = newest_complete(candidate / "checkpoints") if candidate else None
    if complete is None:
        log.info("resume=auto: no complete checkpoint in %s, starting at step 0", candidate or RUNS)
        return Start(run_dir, None)
    return Start(candidate, complete)


def resume(trainer: Trainer, job: TrainJob, checkpoint: Path, manifest: Manifest) -> None:
    """Bring a freshly built trainer to the state of a checkpoint.

    Raises:
        UserError: the checkpoint is damaged, of another architecture, or was trained on other data.
    """
    saved = read_manifest(checkpoint)
    require_same_model(saved, job.model, checkpoint)
    if saved["data_fingerprint"] != manifest.fingerprint:
        raise UserError(
            f"{checkpoint} was trained on data {saved['data_fingerprint'][:12]}, this set is "
            f"{manifest.fingerprint[:12]}: restore that set, or take the weights alone with init_from="
        )
    for difference in _differences(saved["config"], to_dict(job)):
        log.warning("resumed with another setting: %s", difference)
    trainer.checkpoints.load(checkpoint)
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
