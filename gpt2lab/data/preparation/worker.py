"""The main program of a worker process: reads a ``ChunkTokenizer`` and then chunks from standard input, writes results.

It ends when its input ends, and so together with the process that started it, however that one ended. Unpickling the
``ChunkTokenizer`` imports what it needs; torch is not among it.
"""

import os
import pickle
import signal
import sys
import traceback

from gpt2lab.config import UserError
from gpt2lab.data.preparation.backends import send


def main() -> None:
    """Answer each chunk with (result, None) or (None, error)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent stops us
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the output of a library must not get between the results
    try:
        tokenize = pickle.load(sys.stdin.buffer)
        while True:
            chunk = pickle.load(sys.stdin.buffer)
            answer: tuple[object, BaseException | None]
            try:
                answer = tokenize(chunk), None
            except (UserError, OSError) as error:
                answer = None, error
            except BaseException:  # also a panic of tiktoken; the parent reports it
                answer = None, RuntimeError(f"in a worker process:\n{traceback.format_exc()}")
            send(results, answer)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        os._exit(0)  # the parent has ended, perhaps in the middle of a chunk


if __name__ == "__main__":
    main()
