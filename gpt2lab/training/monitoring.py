"""Watching the loss of every step: spikes, and the mean and maximum between two lines of ``metrics.jsonl``."""

import itertools
import math
import statistics
from collections import deque
from collections.abc import Sequence

WINDOW = 128
"""losses the detector remembers"""
SETTLED = 32
"""losses from which on their mean and standard deviation describe them"""
FEWEST = 4
"""losses that must be known before another can be called a spike"""
LATEST = 8
"""losses that stand for the level of the loss while it still falls fast"""
DEVIATIONS = 6.0
SMALLEST_DEVIATION = 0.1
"""nats; used before ``SETTLED`` losses are known, when few differences may happen to be near zero"""


class SpikeDetector:
    """Flags a loss more than six standard deviations above its recent level; saved in every checkpoint.

    From 32 losses on, level and deviation are the mean and standard deviation of the last 128. Before that the loss
    falls so fast that its standard deviation says how far it fell, not how noisy it is. Then the level is the largest
    of the last 8 losses, and the deviation is that of the differences between consecutive losses, at least 0.1 nats.
    """

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=WINDOW)
        self.count = 0

    def __call__(self, loss: float) -> bool:
        """Whether this finite loss is a spike; it is remembered either way."""
        spike = loss > self._threshold()
        self.recent.append(loss)
        self.count += spike
        return spike

    def _threshold(self) -> float:
        recent = list(self.recent)
        if len(recent) < FEWEST:
            return math.inf
        if len(recent) >= SETTLED:
            return statistics.fmean(recent) + DEVIATIONS * statistics.pstdev(recent)
        noise = statistics.pstdev([after - before for before, after in itertools.pairwise(recent)])
        return max(recent[-LATEST:]) + DEVIATIONS * max(noise, SMALLEST_DEVIATION)

    def state_dict(self) -> dict[str, list[float] | int]:
        """The remembered losses and the count, as plain values."""
        return {"recent": list(self.recent), "count": self.count}

    def load_state_dict(self, state: dict[str, list[float] | int]) -> None:
        """Continue from ``state_dict``."""
        recent, self.count = state["recent"], int(state["count"])  # type: ignore[arg-type]
        self.recent = deque(recent, maxlen=WINDOW)  # type: ignore[arg-type]


class LossWindow:
    """The losses since the last line of ``metrics.jsonl``; saved in every checkpoint."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def add(self, loss: float) -> None:
        """Remember the loss of a step; a non-finite one is counted as a skipped step, not here."""
        if math.isfinite(loss):
            self.losses.append(loss)

    def take(self) -> dict[str, float]:
        """``loss_mean`` and ``loss_max`` of the finite losses since the last call; NaN if there are none."""
        losses, self.losses = self.losses, []
        if not losses:
            return {"loss_mean": math.nan, "loss_max": math.nan}
        return {"loss_mean": statistics.fmean(losses), "loss_max": max(losses)}

    def state_dict(self) -> dict[str, Sequence[float]]:
        """The losses."""
        return {"losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Sequence[float]]) -> None:
        """Continue from ``state_dict``."""
        self.losses = list(state["losses"])
