"""Loss spikes: a step's loss far above those before it, which is worth a look though training goes on."""

import statistics
from collections import deque

WINDOW = 128
FEWEST = 32
"""losses that must be known before one can be called unusual"""
DEVIATIONS = 6.0


class SpikeWatch:
    """Flags a loss more than six standard deviations above the mean of the last 128; saved with every checkpoint."""

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=WINDOW)
        self.count = 0

    def __call__(self, loss: float) -> bool:
        """Whether this loss, a number, is a spike; it is remembered either way."""
        spike = len(self.recent) >= FEWEST and loss > statistics.fmean(self.recent) + DEVIATIONS * statistics.pstdev(
            self.recent
        )
        self.recent.append(loss)
        self.count += spike
        return spike

    def state_dict(self) -> dict[str, list[float] | int]:
        """Plain values."""
        return {"recent": list(self.recent), "count": self.count}

    def load_state_dict(self, state: dict[str, list[float] | int]) -> None:
        """Take them back."""
        recent, self.count = state["recent"], int(state["count"])  # type: ignore[arg-type]
        self.recent = deque(recent, maxlen=WINDOW)  # type: ignore[arg-type]
