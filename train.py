"""Train a model: python train.py model=gpt2_medium model/positions=rope data=text_files ..."""

import logging

from gpt2lab.compose import given_run_dir, new_run_dir, open_run_dir, run_job
from gpt2lab.config import TrainJob
from gpt2lab.data import open_or_prepare
from gpt2lab.distributed import close_world, open_world
from gpt2lab.report.run_plots import plot_loss
from gpt2lab.runtime import open_runtime
from gpt2lab.tokenizers import check_vocabulary, load_tokenizer
from gpt2lab.training.build import build_model, build_trainer
from gpt2lab.training.console import Estimate, closing_table, header, warn_about_size
from gpt2lab.training.estimates import memory_bytes, seconds
from gpt2lab.training.resume import find_start, resume
from gpt2lab.weights import load_weights

log = logging.getLogger(__name__)


def train(job: TrainJob) -> float:
    """Run the job; return the final validation loss, which a sweep minimises."""
    world = open_world()
    runtime = open_runtime(job.runtime, world.local_rank, world.local_size)
    tokenizer = load_tokenizer(job.tokenizer.name)
    check_vocabulary(job.tokenizer, tokenizer)
    start = world.on_main(lambda: find_start(job, given_run_dir(job)))
    init_seed = job.seed if job.training.init_seed is None else job.training.init_seed
    model = build_model(job.model, init_seed, runtime)
    if job.init_from:
        source = load_weights(model, job.init_from)
        log.info("weights from %s", source.describe())
        if not source.has_ids_of(tokenizer):
            log.warning("the token ids of %s are not known to be those of tokenizer=%s", source.folder, tokenizer.name)
    folder, manifest = world.on_main(lambda: open_or_prepare(job.data, tokenizer))
    run_dir = world.on_main(lambda: (start.run_dir or new_run_dir()).resolve())
    trainer = build_trainer(job, model, tokenizer, folder, manifest, run_dir, runtime, world, plot=plot_loss)
    if start.checkpoint:
        resume(trainer, job, start.checkpoint, manifest)

    world.on_main(lambda: open_run_dir(run_dir, job))
    if world.is_main:
        checkpointing = job.runtime.activation_checkpointing
        memory = memory_bytes(trainer.plan, activation_checkpointing=checkpointing)
        log.info(header(trainer.plan, Estimate(seconds(trainer.plan, runtime), memory)))
        warn_about_size(trainer.plan)
    result = trainer.run()
    close_world()
    if world.is_main:
        log.info(closing_table(result.validation, result.references, trainer.plan))
    return result.validation.loss


if __name__ == "__main__":
    run_job("train", train)
