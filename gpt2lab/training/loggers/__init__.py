"""Loggers: copies of a run's metrics for dashboards. ``LOGGERS[name](LoggerConfig, RunIdentity)``.

``metrics.jsonl`` is the truth; a logger receives the same lines. To add one: a class in a module here, an entry in
``LOGGERS`` and its name in ``gpt2lab.config.training.LOGGER_NAMES``.
"""

from collections.abc import Callable

from gpt2lab.config import LoggerConfig
from gpt2lab.training.loggers.base import Guarded, Logger, RunIdentity
from gpt2lab.training.loggers.evaluation import log_evaluation
from gpt2lab.training.loggers.tensorboard import TensorBoardLogger
from gpt2lab.training.loggers.weights_and_biases import WandbLogger

__all__ = ["LOGGERS", "Guarded", "Logger", "RunIdentity", "log_evaluation"]

LOGGERS: dict[str, Callable[[LoggerConfig, RunIdentity], Logger]] = {
    "wandb": WandbLogger,
    "tensorboard": TensorBoardLogger,
}
