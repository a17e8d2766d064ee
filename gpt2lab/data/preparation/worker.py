"""The main program of a worker process: standard input -> a ``Tokeniser``, then pieces -> results on standard output.

It ends when its input does, and so with the process that started it, however that one ended. What the tokeniser is
made of is imported by ``pickle``, which names it; torch is no part of it.
"""

import os
import pickle
import signal
import sys
import traceback

from gpt2lab.config import UserError
from gpt2lab.data.preparation.backends import send


def main() -> None:
    """Answer each piece with (result, None) or (None, error)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; ours are told to end
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the results
    try:
        tokeniser = pickle.load(sys.stdin.buffer)
        while True:
            piece = pickle.load(sys.stdin.buffer)
            answer: tuple[object, BaseException | None]
            try:
                answer = tokeniser(piece), None
            except (UserError, OSError) as error:
                answer = None, error
            except BaseException:  # also a panic of tiktoken's; it belongs to the process that asked
                answer = None, RuntimeError(f"in a worker process:\n{traceback.format_exc()}")
            send(results, answer)
    except (EOFError, BrokenPipeError):
        os._exit(0)  # nobody is left to tell


if __name__ == "__main__":
    main()
