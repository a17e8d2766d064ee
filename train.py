"""Train a model: python train.py model=gpt2_medium model/positions=rope data=text_files ..."""

import logging

from gpt2lab.analysis.plots import plot_loss
from gpt2lab.compose import given_run_dir, new_run_dir, open_run_dir, run_job
from gpt2lab.config import TrainJob
from gpt2lab.data import open_or_prepare
from gpt2lab.runtime import open_runtime
from gpt2lab.tokenizer import check_vocabulary, load_tokenizer
from gpt2lab.training.build import build_model, build_trainer
from gpt2lab.training.resume import find_start, resume
from gpt2lab.training.summary import report, start_line, write_summary
from gpt2lab.weights import load_weights

log = logging.getLogger(__name__)


def train(job: TrainJob) -> float:
    """Run the job; return the final validation loss, which a sweep minimises."""
    runtime = open_runtime(job.runtime)
    tokenizer = load_tokenizer(job.tokenizer.name)
    check_vocabulary(job.tokenizer, tokenizer)
    start = find_start(job, given_run_dir(job))
    model = build_model(job.model, job.seed, runtime)
    if job.init_from:
        source = load_weights(model, job.init_from)
        log.info("weights from %s", source.describe())
        if source.tokenizer_name != tokenizer.name:
            log.warning("the token ids of %s are not known to be those of tokenizer=%s", source.folder, tokenizer.name)
    folder, manifest = open_or_prepare(job.data, tokenizer)
    run_dir = (start.run_dir or new_run_dir()).resolve()
    trainer = build_trainer(job, model, tokenizer, folder, manifest, run_dir, runtime)
    if start.checkpoint:
        resume(trainer, job, start.checkpoint, manifest)

    open_run_dir(run_dir, job)
    log.info(start_line(trainer, job, run_dir))
    try:
        validation = trainer.run()
    except BaseException as error:
        write_summary(trainer, run_dir, status=f"failed: {type(error).__name__}")
        raise
    write_summary(trainer, run_dir, "completed", validation, manifest)
    plot_loss(run_dir)
    log.info(report(validation, manifest, run_dir))
    return validation.loss


if __name__ == "__main__":
    run_job("train", train)
