"""What reaches the terminal: gpt2lab's own lines, above the progress bar; lines of other libraries go to log.txt."""

import io
import logging
import os
import sys
import time
import warnings
from contextlib import suppress
from logging.handlers import MemoryHandler
from typing import Any, TextIO, cast

from tqdm import tqdm

WAIT_SECONDS = 5.0


class Console:
    """A stream to the terminal that never stops a run: once it cannot be written, what is printed goes nowhere.

    ``| head`` closes it, a terminal may be closed or a disk full, and a terminal that is not UTF-8 shows escapes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write, if there is still somebody to read it."""
        try:
            return self.stream.write(text)
        except (OSError, ValueError):
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Flush, as ``write`` does."""
        try:
            self.stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        with suppress(OSError, ValueError):  # what is left in the buffer is flushed to nowhere when the process ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


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


def protect_streams(*, text_on_stdout: bool = False) -> None:
    """Let no trouble of the console reach the program.

    Args:
        text_on_stdout: standard output is the result, of which a lost part must be an error; it is left as it is.
    """
    for descriptor in range(3):  # a closed one would be given to the next file that is opened, which prints would spoil
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    nowhere: Any = io.StringIO()
    sys.stderr = cast(TextIO, Console(sys.stderr or nowhere))
    if not text_on_stdout:
        sys.stdout = cast(TextIO, Console(sys.stdout or nowhere))
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def open_console(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Begin to log: to the terminal, and to memory until there is a run directory with a log of its own."""
    handlers = [ConsoleHandler(stream or sys.stdout), MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL)]
    logging.basicConfig(level=level, format="%(message)s", handlers=handlers, force=True)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # a log that cannot be written does not stop a run
    warnings.simplefilter("default")


def print_error(message: str) -> None:
    """Print in a line what went wrong, and log it; the first of several processes prints for all."""
    if os.environ.get("RANK", "0") == "0":
        print(f"error: {message}", file=sys.stderr)
        record = logging.LogRecord("gpt2lab", logging.ERROR, __file__, 0, message, (), None)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.emit(record)


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
