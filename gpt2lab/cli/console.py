"""What reaches the terminal: gpt2lab's own lines, above the progress bar; lines of other libraries go to log.txt."""

import logging
import os
import sys
import warnings
from logging.handlers import MemoryHandler
from typing import TextIO

from tqdm import tqdm


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
    """Say in a line what went wrong; of several processes the first on each machine says it."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"error: {message}", file=sys.stderr)
