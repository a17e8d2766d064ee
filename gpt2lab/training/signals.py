"""Signals that ask a run to stop: recorded at once, acted on by all processes together where the state can be saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gpt2lab.config import StoppedError, stop_signals
from gpt2lab.distributed import World
from gpt2lab.shell import command_line


def stopped_error(number: int, step: int, run_dir: Path) -> StoppedError:
    """The error that ends a run after signal ``number``."""
    return StoppedError(
        f"stopped by {signal.Signals(number).name} at step {step}, which is saved; to continue, type "
        + command_line("train", f"from={run_dir}", "resume=auto"),
        number,
    )


class StopRequested(BaseException):
    """A signal was received, by this process or another; its argument is the signal's number."""


class StopSignals:
    """Remembers the last stop signal that this process received."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.received = 0

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Within the block, stop signals are remembered instead of ending the process; a second SIGINT ends it."""

        def remember(number: int, frame: object) -> None:
            if self.received == number == signal.SIGINT:
                raise KeyboardInterrupt
            self.received = number

        before = {number: signal.signal(number, remember) for number in stop_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise ``StopRequested`` in all processes together if any of them received a signal."""
        received = torch.zeros(signal.NSIG, dtype=torch.int32)
        received[self.received] = 1
        received[0] = 0
        if number := int(self.world.sum(received).argmax()):
            raise StopRequested(number)

    def check_within_step(self) -> None:
        """``check`` between the micro-batches of a step, which may be hours long on a CPU.

        Several processes would have to wait for each other to agree, so they finish their step first.
        """
        if self.received and self.world.size == 1:
            raise StopRequested(self.received)
