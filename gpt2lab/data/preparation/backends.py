"""Who does the work: pieces of a source -> tokenised pieces, in the same order, whoever takes them.

``InProcess`` does it here, ``WorkerProcesses`` in fresh Python processes that import no torch, ``RayCluster`` on the
machines of a Ray cluster. All of them hold a bounded number of pieces at a time. A new engine is a class here and an
entry of ``ENGINES``.
"""

import itertools
import os
import pickle
import queue
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Self

from gpt2lab.config import UserError
from gpt2lab.data.sources import Piece
from gpt2lab.data.preparation.tokenization import Tokenised, Tokeniser

AHEAD = 4
"""Pieces a worker that may be under way or waiting for an earlier one"""


class Engine(ABC):
    """Applies a ``Tokeniser`` to pieces. A context manager: leaving it ends what it started."""

    def __init__(self, tokeniser: Tokeniser, num_workers: int) -> None:
        self.tokeniser = tokeniser
        self.num_workers = num_workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    @abstractmethod
    def results(self, pieces: Iterator[Piece]) -> Iterator[Tokenised]:
        """Each piece, tokenised, in the order of the pieces."""


class InProcess(Engine):
    """One piece after the other in this process."""

    def results(self, pieces: Iterator[Piece]) -> Iterator[Tokenised]:
        """See ``Engine.results``."""
        return map(self.tokeniser, pieces)


class WorkerProcesses(Engine):
    """Worker processes of their own; a thread for each hands it a piece and waits for the answer.

    They are started as plain commands: a fork of a process with threads and torch in it can deadlock, and
    multiprocessing's spawn would import the main module, with torch, in each of them.
    """

    def __enter__(self) -> Self:
        self._workers = [Worker(self.tokeniser) for _ in range(self.num_workers)]
        self._threads = ThreadPoolExecutor(self.num_workers)
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.end()
        self._threads.shutdown()

    def results(self, pieces: Iterator[Piece]) -> Iterator[Tokenised]:
        """See ``Engine.results``; a worker that dies is a ``UserError``, any other error of its one here."""
        idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            idle.put(worker)

        def tokenise(piece: Piece) -> Tokenised:
            worker = idle.get()
            try:
                return worker(piece)
            finally:
                idle.put(worker)

        return in_order(lambda piece: self._threads.submit(tokenise, piece), Future.result, pieces, self.num_workers)


class RayCluster(Engine):
    """Actors of a Ray cluster, one a CPU asked for; ``RAY_ADDRESS`` names the cluster, else one is started here.

    Every machine of it must see the source's files under the same path, and have gpt2lab installed.
    """

    def __enter__(self) -> Self:
        try:
            import ray  # noqa: PLC0415
        except ImportError:
            raise UserError("prepare.engine=ray needs a package: type pip install 'gpt2lab[ray]'") from None
        self._ray: Any = ray
        self._started = not self._ray.is_initialized()
        if self._started:
            self._ray.init(log_to_driver=False, include_dashboard=False, logging_level="error", num_cpus=self._local_cpus())
        actor = self._ray.remote(num_cpus=1)(Actor)
        task = self._ray.put(self.tokeniser)
        self._actors = [actor.remote(task) for _ in range(self.num_workers)]
        return self

    def __exit__(self, *exception: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

    def results(self, pieces: Iterator[Piece]) -> Iterator[Tokenised]:
        """See ``Engine.results``."""
        turns = itertools.cycle(self._actors)

        def result(reference: Any) -> Tokenised:
            try:
                value: Tokenised = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayActorError as error:
                raise UserError(
                    f"a Ray worker ended ({type(error).__name__}): out of memory? type the command again to go on from "
                    "there, or fewer prepare.num_workers"
                ) from None
            return value

        return in_order(lambda piece: next(turns).tokenise.remote(piece), result, pieces, self.num_workers)

    def _local_cpus(self) -> int | None:
        return None if os.environ.get("RAY_ADDRESS") else self.num_workers


class Actor:
    """What runs on the cluster."""

    def __init__(self, tokeniser: Tokeniser) -> None:
        self._tokeniser = tokeniser

    def tokenise(self, piece: Piece) -> Tokenised:
        """One piece."""
        return self._tokeniser(piece)


class Worker:
    """A process that runs ``gpt2lab.data.preparation.worker``: pickled pieces go in, pickled results come out."""

    def __init__(self, tokeniser: Tokeniser) -> None:
        self._tokeniser: Tokeniser | None = tokeniser
        search_path = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpt2lab.data.preparation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": search_path, "OMP_NUM_THREADS": "1"},
        )

    def __call__(self, piece: Piece) -> Tokenised:
        """Have it tokenise one piece."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            if self._tokeniser is not None:  # the first piece: sent here, so that workers get ready beside each other
                send(self._process.stdin, self._tokeniser)
                self._tokeniser = None
            send(self._process.stdin, piece)
            result, error = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            where = piece.spans[0] if piece.spans else "the source"
            raise UserError(
                f"a worker process ended with status {self._process.wait()} while it read {where}: out of memory? type "
                "the command again to go on from there, or prepare.num_workers=1 for less memory"
            ) from None
        if error is not None:
            raise error
        assert isinstance(result, Tokenised)
        return result

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe:
                    pipe.close()
            except BrokenPipeError:  # what was not sent is not needed any more
                pass


def in_order(
    submit: Callable[[Piece], Any], result: Callable[[Any], Tokenised], pieces: Iterator[Piece], num_workers: int
) -> Iterator[Tokenised]:
    """Submit pieces a bounded number ahead, and give out the results in the order of the pieces."""
    pending: deque[Any] = deque()
    for piece in pieces:
        pending.append(submit(piece))
        if len(pending) == AHEAD * num_workers:
            yield result(pending.popleft())
    while pending:
        yield result(pending.popleft())


def send(pipe: IO[bytes], value: object) -> None:
    """Write a value for the other side to ``pickle.load``."""
    pickle.dump(value, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


ENGINES: dict[str, Callable[[Tokeniser, int], Engine]] = {"local": WorkerProcesses, "ray": RayCluster}
