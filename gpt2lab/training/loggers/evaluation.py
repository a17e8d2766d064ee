"""The evaluation of a training run, added to where the run was logged."""

import logging
from collections.abc import Mapping
from pathlib import Path

from gpt2lab.config import LoggerConfig, UserError, from_dict, one_line
from gpt2lab.runs import read_run
from gpt2lab.runs.layout import CONFIG, SUMMARY
from gpt2lab.training.loggers import tensorboard, weights_and_biases

log = logging.getLogger(__name__)


def log_evaluation(run_dir: Path, metrics: Mapping[str, float], step: int | str | None = None) -> None:
    """Add metrics to the W&B run and the TensorBoard files of a training run, if it has them.

    A run that was not logged, and a folder that is no run, are left alone; a damaged record or a logger that fails is
    a warning.

    Args:
        run_dir: the run whose model was evaluated.
        metrics: numbers by name, such as ``bits_per_byte``; dashboards show them as ``eval/bits_per_byte``.
        step: of the evaluated weights; None: the run's last. Those of an earlier step are logged to TensorBoard only,
            since a run has one value of each name in the summary of W&B.
    """
    if not ((run_dir / CONFIG).is_file() and (run_dir / SUMMARY).is_file()):
        return
    try:
        record = read_run(run_dir)
        settings = from_dict(LoggerConfig, record.config.get("logger") or {}, "logger")
    except UserError as error:
        log.warning("the run's dashboards are left out: %s", error)
        return
    last = record.summary.get("steps")
    at = int(step) if step is not None else last
    for name in settings.names:
        try:
            if name == "wandb" and at != last:
                log.info(
                    "W&B: not logged, since these weights are of step %s of %s (eval.json has everything)", at, last
                )
            elif name == "wandb":
                weights_and_biases.log_evaluation(run_dir, record.summary["run_id"], settings.project, metrics)
            elif name == "tensorboard":
                tensorboard.log_evaluation(run_dir, metrics, at)
        except Exception as error:  # no failure of a dashboard may stop an evaluation
            log.warning("logger %s failed (eval.json has everything): %s", name, one_line(error))
