"""Train a model: job -> run directory with checkpoints, metrics and summary."""

import logging
from collections.abc import Sequence
from pathlib import Path

from gpt2lab.config import TrainJob, check_kind
from gpt2lab.data import open_or_prepare
from gpt2lab.distributed import World, close_world, open_world
from gpt2lab.report.run_plots import plot_loss
from gpt2lab.runs import Hardware, new_run_dir, open_run_dir
from gpt2lab.runtime import Runtime, open_runtime
from gpt2lab.tokenizers import load_tokenizer, open_tokenizer
from gpt2lab.training.build import build_model, build_trainer
from gpt2lab.training.console import closing_table, header, warn_about_size
from gpt2lab.training.estimates import estimate
from gpt2lab.training.plan import resolved_config
from gpt2lab.training.resume import find_start, resume_training
from gpt2lab.training.trainer import TrainingResult
from gpt2lab.weights import load_weights

log = logging.getLogger(__name__)


def train(job: TrainJob, *, command: Sequence[str] | None = None) -> TrainingResult:
    """Train to the end of the job.

    Args:
        job: from ``compose_config("train", [...])``, or built from its dataclasses.
        command: program and arguments, for the record; None: called from Python.

    Raises:
        UserError: the job cannot be run as it is, or training diverged.
        StoppedError: a signal stopped the run; its state is saved.
    """
    check_kind(job, TrainJob, "job", 'compose_config("train", [...])')
    world = open_world()
    result = _train(job, world, command)  # on its return the model is freed, as close_world needs it
    close_world()
    return result


def _train(job: TrainJob, world: World, command: Sequence[str] | None) -> TrainingResult:
    """Train within the processes of ``world``."""
    runtime = open_runtime(job.runtime, world.local_rank, world.local_size)
    start = world.on_main(lambda: find_start(job, Path(job.run_dir) if job.run_dir else None))
    model = build_model(job.model, job.init_seed, runtime)
    init_from = None if start.checkpoint else job.init_from
    source = load_weights(model, init_from) if init_from else None  # before a corpus is prepared in vain
    folder, manifest = world.on_main(lambda: open_or_prepare(job.data, open_tokenizer(job.tokenizer)))
    tokenizer = load_tokenizer(job.tokenizer, folder)  # a trained one is in the folder of its dataset
    if source:
        log.info("weights from %s", source.describe())
        if not source.has_ids_of(tokenizer):
            log.warning("the token ids of %s are not known to be those of tokenizer=%s", source.folder, tokenizer.name)
    run_dir = world.on_main(lambda: (start.run_dir or new_run_dir()).resolve())
    trainer = build_trainer(job, model, tokenizer, folder, manifest, run_dir, runtime, world, plot=plot_loss)
    if start.checkpoint:
        resume_training(trainer, job, start.checkpoint, manifest)

    config, hardware = resolved_config(job, runtime), hardware_of(runtime)
    world.on_main(lambda: open_run_dir(run_dir, config, command, hardware, trainer.state.step))
    if world.is_main:
        expected = estimate(trainer.plan, job.runtime, runtime)
        log.info(header(trainer.plan, expected))
        warn_about_size(trainer.plan, expected)
    result = trainer.run()
    if world.is_main:
        log.info(closing_table(result.validation, result.references, trainer.plan))
    return result


def hardware_of(runtime: Runtime) -> Hardware:
    """What the job computes on, for the record."""
    return Hardware(runtime.device_name, runtime.cpu_threads)
