"""Where a run starts: fresh, from a checkpoint (``resume``), or from another run's weights (``init_from``)."""

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2lab.checkpoint import (
    list_checkpoints,
    newest_complete,
    newest_started_run,
    read_manifest,
    relink_copies,
    restore_replaced,
    verify_checkpoint,
)
from gpt2lab.config import ModelConfig, TrainJob, UserError, from_dict, to_dict
from gpt2lab.config.differences import Difference, differences
from gpt2lab.config.training import LENGTHS
from gpt2lab.data import Manifest, ValidationBatches
from gpt2lab.runs import check_can_start_again, check_not_foreign, check_unused, lock_directory, warn_of_other_code
from gpt2lab.runs.layout import CHECKPOINTS
from gpt2lab.runtime import Runtime
from gpt2lab.shell import command_line, shell_word
from gpt2lab.training.plan import resolved_config
from gpt2lab.training.trainer import Trainer
from gpt2lab.weights import find_checkpoint
from gpt2lab.weights.loading import require_same_model

DATA_ORDER_KEYS = {
    "seed",
    "training.data_seed",
    "training.batch_tokens",
    "training.sequence_length",
    "data.packing",
    "data.document_masking",
    "data.random_lengths",
}
"""settings that the data order and the token count are functions of"""
PROCESS_KEYS = {
    "resume",
    "run_dir",
    "init_from",
    "ignore_data_fingerprint",
    "logger.run_name",
    "logger.group",
    "logger.tags",
}
"""settings of one process of a run, not of the run"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What ``resume`` and ``run_dir`` resolve to."""

    run_dir: Path | None
    """run directory; None: a new one"""
    checkpoint: Path | None
    """checkpoint to resume from; None: step 0"""


def find_start(job: TrainJob, run_dir: Path | None) -> Start:
    """Decide where the run starts, and lock its directory if it is there: a process that writes in it keeps it whole.

    Args:
        job: its ``resume``.
        run_dir: the run directory the user named; None: none was named.

    Raises:
        UserError: ``run_dir`` holds checkpoints and ``resume`` is not set, there is nothing at ``resume``, two runs
            would write into one run directory, or another process works in it.
    """
    if run_dir and os.path.lexists(run_dir) and not run_dir.is_dir():  # a file, or a link that leads nowhere
        raise UserError(f"run_dir={run_dir} is not a folder; expected a folder, which may be new; try another name")
    if not job.resume:
        _lock_if_there(run_dir)
        if run_dir and list_checkpoints(run_dir / CHECKPOINTS):
            raise UserError(
                f"run_dir={run_dir} holds checkpoints: add resume=auto to continue that run, or name another folder"
            )
        if run_dir:
            check_unused(run_dir)
        return Start(run_dir, None)
    if job.resume == "auto":
        candidate = run_dir or newest_started_run()
        return _newest_start(candidate) if candidate else Start(None, None)
    checkpoint = find_checkpoint(job.resume, "resume")
    own = checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else None
    run_dir = run_dir or own
    if run_dir is None:
        raise UserError(
            f"resume={job.resume}: a checkpoint outside a run directory; expected run_dir= with the folder to continue "
            f"in; try {shell_word(f'run_dir={checkpoint.parent}/run')}"
        )
    _lock_if_there(run_dir)
    if run_dir.resolve() != own:
        check_not_foreign(run_dir)
    _restore_names(run_dir / CHECKPOINTS)
    checkpoint = checkpoint.resolve()  # what was a folder may be a link now
    newest = next(iter(list_checkpoints(run_dir / CHECKPOINTS)), checkpoint)
    if newest.resolve() != checkpoint and (run_dir.resolve() != own or newest.name > checkpoint.name):
        raise UserError(
            f"resume={job.resume}: {run_dir} holds {newest.name} besides: add run_dir= with a new folder to branch "
            "off, or type resume=auto to continue from the newest"
        )
    return Start(run_dir, checkpoint)


def _lock_if_there(run_dir: Path | None) -> None:
    """Lock a run directory before it is read: what another process is about to rename or delete may not be touched."""
    if run_dir and run_dir.is_dir():
        lock_directory(run_dir)


def _restore_names(folder: Path) -> None:
    """Give checkpoints and links the names that a kill, or a copy without links, took from them."""
    restore_replaced(folder)
    relink_copies(folder)


def _newest_start(run_dir: Path) -> Start:
    _lock_if_there(run_dir)
    _restore_names(run_dir / CHECKPOINTS)
    complete = newest_complete(run_dir / CHECKPOINTS)
    checkpoints = list_checkpoints(run_dir / CHECKPOINTS)
    if complete is None and checkpoints:
        try:
            verify_checkpoint(checkpoints[0])
        except UserError as error:
            reason = str(error)
        raise UserError(
            f"{run_dir}: none of its checkpoints can be used ({reason}): name another run_dir to start anew"
        )
    if complete is None:
        check_can_start_again(run_dir)
        log.info("resume=auto: no checkpoint in %s yet, starting at step 0", run_dir)
    return Start(run_dir, complete)


def resume_training(trainer: Trainer, job: TrainJob, checkpoint: Path, manifest: Manifest) -> None:
    """Restore the state of a checkpoint in a freshly built trainer.

    Raises:
        UserError: the checkpoint is damaged, of another architecture, was trained on other data, or is beyond the end
            of the run.
    """
    saved = read_manifest(checkpoint)
    hint = ""
    if checkpoint.parent.name == CHECKPOINTS:  # of a run directory, which has a record
        recorded = command_line("train", f"from={checkpoint.parent.parent}", "resume=auto")
        hint = f"; to continue with the recorded settings, type {recorded}"
    require_same_model(
        from_dict(ModelConfig, saved["config"]["model"]),
        job.model,
        checkpoint,
        free=("dropout",),
        hint=hint,
    )
    if saved["step"] > trainer.total_steps:
        key = next(key for key in LENGTHS if getattr(job.training, key) is not None)
        raise UserError(
            f"training.{key}={getattr(job.training, key)}: a run of {trainer.total_steps} steps, but {checkpoint} is "
            f"at step {saved['step']}; expected at least {saved['step']} steps; try a larger training.{key}"
        )
    has_other_data = saved["data_fingerprint"] != manifest.fingerprint
    if has_other_data:
        difference = (
            f"{checkpoint} was trained on data {saved['data_fingerprint'][:12]}, this dataset is "
            f"{manifest.fingerprint[:12]}"
        )
        if not job.ignore_data_fingerprint:
            raise UserError(
                f"{difference}: restore that dataset, take the weights alone with init_from=, or continue by "
                "ignore_data_fingerprint=true"
            )
        log.warning("%s: continuing; text of the earlier validation split may now be trained on", difference)
    saved_job = from_dict(TrainJob, saved["config"])  # settings added since have their defaults
    changes = effective_changes(saved_job, job, trainer.runtime)
    for change in changes:
        if change.key in DATA_ORDER_KEYS:
            raise UserError(
                f"{checkpoint}: {change}: the data order would change; resume with the saved value, or take the "
                "weights alone with init_from="
            )
    for change in changes:
        log.warning("resumed with another setting: %s", change)
    if (precision := trainer.runtime.precision) != saved["precision"]:
        log.warning("resumed in another precision: %s (was %s)", precision, saved["precision"])
    warn_of_other_code(checkpoint.resolve().parent.parent, to_dict(job.model))
    own_run_id = trainer.state.run_id
    trainer.checkpoints.load(checkpoint)
    windows = trainer.validator.windows
    saved_windows = ValidationBatches(windows.sequences, saved_job.training.eval_tokens)
    best_step = trainer.state.best_step
    if has_other_data or len(saved_windows) != len(windows):
        trainer.state.forget_best("the validation text is another one")
    elif best_step and not trainer.checkpoints.has(best_step):
        trainer.state.forget_best(f"{trainer.plan.run_dir} does not hold the best checkpoint so far")
    if trainer.plan.run_dir.resolve() != checkpoint.resolve().parent.parent:
        trainer.state.run_id = own_run_id  # a branch is a run of its own
    else:
        trainer.saved_step = -1 if trainer.state.validation_pending else trainer.state.step
        trainer.checkpoints.point_links(checkpoint.resolve(), trainer.state.best_step)
    log.info("resumed from %s at step %d", checkpoint, trainer.state.step)


def effective_changes(saved: TrainJob, current: TrainJob, runtime: Runtime) -> list[Difference]:
    """The settings of a run that differ between two jobs, as they were given.

    A value that ``null`` or ``auto`` came to is no change: ``from=RUN`` reads such values in config.yaml.
    """
    effective = [_effective_config(job, runtime) for job in (saved, current)]
    changed = {change.key for change in config_differences(*effective)}
    return [change for change in config_differences(to_dict(saved), to_dict(current)) if change.key in changed]


def _effective_config(job: TrainJob, runtime: Runtime) -> dict[str, Any]:
    """``resolved_config`` with the sequence length and the seeds, which config.yaml has as they were given."""
    training = dataclasses.replace(
        job.training, sequence_length=job.sequence_length, data_seed=job.data_seed, init_seed=job.init_seed
    )
    return resolved_config(dataclasses.replace(job, training=training), runtime)


def config_differences(saved: dict[str, Any], current: dict[str, Any]) -> list[Difference]:
    """The settings of a run that differ between two configurations given as nested plain values."""
    return [change for change in differences(saved, current) if change.key not in PROCESS_KEYS]
