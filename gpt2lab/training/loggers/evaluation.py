"""The evaluation of a training run, added to where the run was logged."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gpt2lab.training.loggers import tensorboard, weights_and_biases

log = logging.getLogger(__name__)


def log_evaluation(run_dir: Path, metrics: Mapping[str, float]) -> None:
    """Add metrics to the W&B run and the TensorBoard files of a training run, if it has them.

    A run that was not logged, and a folder that is no run, are left alone; a logger that fails only warns.

    Args:
        run_dir: the run whose model was evaluated.
        metrics: numbers by name, such as ``bits_per_byte``; dashboards show them as ``eval/bits_per_byte``.
    """
    config, summary = run_dir / "config.yaml", run_dir / "summary.json"
    if not (config.is_file() and summary.is_file()):
        return
    settings: dict[str, Any] = (yaml.safe_load(config.read_text()) or {}).get("logger") or {}
    facts: dict[str, Any] = json.loads(summary.read_text())
    for name in settings.get("names") or []:
        try:
            if name == "wandb":
                weights_and_biases.log_evaluation(run_dir, facts["run_id"], settings["project"], metrics)
            elif name == "tensorboard":
                tensorboard.log_evaluation(run_dir, metrics, facts["steps"])
        except Exception as error:  # no failure of a dashboard may stop an evaluation
            log.warning("logger %s failed (eval.json has everything): %s", name, error)
