"""What a run knows besides model and optimizer: counters and monitors, saved in every checkpoint.

Batches, learning rates and dropout are functions of (seed, step), so a few plain values are all that a resumed run
needs to take the steps of a run that was never stopped.
"""

import dataclasses
import logging
import math
import secrets
from dataclasses import dataclass, field
from typing import Any

from gpt2lab.training.loss_scale import LossScale
from gpt2lab.training.monitoring import LossWindow, SpikeDetector

log = logging.getLogger(__name__)


@dataclass
class TrainState:
    """Counters and monitors of a run, from its first process to its last."""

    loss_scale: LossScale
    step: int = 0
    """optimizer steps taken, skipped ones included"""
    train_seconds: float = 0.0
    """time in training steps"""
    wall_seconds: float = 0.0
    """time in training steps and validations, without saving"""
    best_val_loss: float = math.inf
    """lowest validation loss so far"""
    best_step: int = 0
    """step of ``best_val_loss``"""
    validation_pending: bool = False
    """the validation after ``step`` was interrupted by a signal; a resumed run starts with it"""
    skipped_steps: int = 0
    """steps without an update, because the loss or the gradient was non-finite"""
    skipped_in_a_row: int = 0
    """the most recent of them, up to the last step with an update"""
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    """identifies the run in W&B"""
    spikes: SpikeDetector = field(default_factory=SpikeDetector)
    losses: LossWindow = field(default_factory=LossWindow)
    """losses since the last line of ``metrics.jsonl``"""

    def forget_best(self, reason: str) -> None:
        """Drop the lowest validation loss, where those to come are not to be compared with it."""
        if self.best_step:
            log.warning(
                "%s: best_val_loss %.4f of step %d is not compared with the losses to come",
                reason, self.best_val_loss, self.best_step,
            )  # fmt: skip
        self.best_val_loss, self.best_step = math.inf, 0

    def state_dict(self) -> dict[str, Any]:
        """Every field as a plain value; those of the parts that have a state of their own as a dict."""
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        return {
            name: value.state_dict() if hasattr(value, "state_dict") else value  # a copy, for a background checkpoint
            for name, value in values.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the values of ``state_dict``; ``ValueError`` if the saved fields are others."""
        expected = {spec.name for spec in dataclasses.fields(self)}
        if state.keys() != expected:
            raise ValueError(f"saved fields {', '.join(sorted(state.keys() ^ expected))} do not match")
        for name, value in state.items():
            part = getattr(self, name)
            if hasattr(part, "load_state_dict"):
                part.load_state_dict(value)
            else:
                setattr(self, name, value)
