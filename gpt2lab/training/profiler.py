"""A trace of a few steps that shows where the time goes; chrome://tracing and Perfetto open it."""

from pathlib import Path
from types import TracebackType
from typing import Any

from torch.profiler import profile, schedule

SKIPPED_STEPS, WARM_UP_STEPS, TRACED_STEPS = 2, 1, 3


class Profiler:
    """Does nothing; ``TracingProfiler`` does."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""

    def step(self) -> None:
        """A training step was taken."""


class TracingProfiler(Profiler):
    """Writes steps 4 to 6 after the start, as a Chrome trace; later steps are not slowed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.profile = profile(
            schedule=schedule(skip_first=SKIPPED_STEPS, wait=0, warmup=WARM_UP_STEPS, active=TRACED_STEPS, repeat=1),
            on_trace_ready=self._write,
            record_shapes=True,
        )

    def __enter__(self) -> None:
        """Begin."""
        self.profile.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""
        self.profile.stop()

    def step(self) -> None:
        """A training step was taken."""
        self.profile.step()

    def _write(self, finished: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        finished.export_chrome_trace(str(self.path))
