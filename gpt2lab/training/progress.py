"""Where a run stands: plain values that are saved with every checkpoint."""

import dataclasses
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt2lab.checkpoint import Stateful


class SavedValues:
    """A dataclass of plain values as a part of a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """The values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        for key, value in state.items():
            setattr(self, key, value)


@dataclass
class Progress(SavedValues):
    """Steps taken, and what came of them."""

    step: int = 0
    """optimizer steps taken"""
    train_seconds: float = 0.0
    """time in training steps, over all processes this run has had"""
    wall_seconds: float = 0.0
    """time in the loop, validation included, saving not"""
    best_val_loss: float = math.inf
    """lowest validation loss so far"""
    owes_validation: bool = False
    """the validation after this step was cut short by a signal; a resumed run begins with it"""
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    """what W&B knows the run by"""


@dataclass
class Skips(SavedValues):
    """Steps without an update, because loss or gradient was no number."""

    total: int = 0
    in_a_row: int = 0
    """the last ones, without a good step between"""


@dataclass(frozen=True)
class Together:
    """Several small parts as one, so that they share a file."""

    parts: Mapping[str, Stateful]

    def state_dict(self) -> dict[str, Any]:
        """Each part's state."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give each its state back; ``ValueError`` if the saved parts are others."""
        if state.keys() != self.parts.keys():
            raise ValueError(f"{', '.join(state)} were saved, {', '.join(self.parts)} are expected")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
