"""What reaches the terminal: gpt2lab's own lines, above the progress bar; lines of other libraries go to log.txt."""

import logging
import os
import sys
import time
import warnings
from logging.handlers import MemoryHandler
from typing import TextIO

from tqdm import tqdm

WAIT_SECONDS = 5.0


class ConsoleHandler(logging.Handler):
    """Prints above the progress bar instead of through it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line of gpt2lab's, or an error of another library."""
        own = record.name.split(".")[0] in ("gpt2lab", "__main__")
        if own or record.levelno >= logging.ERROR:
            prefix = "warning: " if record.levelno == logging.WARNING else ""
            tqdm.write(prefix + self.format(record), file=self.stream)


def open_console(level: int = logging.INFO, stream: TextIO = sys.stdout) -> None:
    """Begin to log: to the terminal, and to memory until there is a run directory with a log of its own."""
    handlers = [ConsoleHandler(stream), MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL)]
    logging.basicConfig(level=level, format="%(message)s", handlers=handlers, force=True)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default")


def print_error(message: str) -> None:
    """Print in a line what went wrong; the first of several processes prints for all."""
    if os.environ.get("RANK", "0") == "0":
        print(f"error: {message}", file=sys.stderr)


def print_own_error(message: str) -> None:
    """Print what went wrong in this process, which need not have gone wrong in the others.

    Most mistakes are found by all processes. The first one then prints, ends, and is the end of the others while they
    wait here; one that is still there has an error of its own.
    """
    rank = os.environ.get("RANK", "0")
    if rank == "0":
        print_error(message)
    else:
        time.sleep(WAIT_SECONDS)
        print(f"error in process {rank}: {message}", file=sys.stderr)
