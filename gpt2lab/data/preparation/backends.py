"""Backends apply a ``ChunkTokenizer`` to chunks and return the results in the order of the chunks.

``InProcess`` works in the calling process, ``LocalProcesses`` in fresh Python processes that do not import torch,
``RayBackend`` on the machines of a Ray cluster. Each holds a bounded number of chunks at a time. A new backend is a
class here and an entry of ``BACKENDS``.
"""

import itertools
import os
import pickle
import queue
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Self

from gpt2lab.config import UserError, not_installed
from gpt2lab.data.preparation.tokenization import ChunkTokenizer, TokenizedChunk
from gpt2lab.data.sources import Chunk

CHUNKS_AHEAD = 4
"""Chunks per worker that are in work or wait for an earlier one"""

WORKER_TIMEOUT_SECONDS = 600.0
"""A chunk takes well under a second; a worker that needs this long hangs, for instance on a lost network drive"""


class Backend(ABC):
    """Applies a ``ChunkTokenizer`` to chunks. A context manager: leaving it stops the workers it started."""

    def __init__(self, tokenize: ChunkTokenizer, num_workers: int) -> None:
        self.tokenize = tokenize
        self.num_workers = num_workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    @abstractmethod
    def results(self, chunks: Iterator[Chunk]) -> Iterator[TokenizedChunk]:
        """Tokenize each chunk; results come in the order of the chunks.

        Raises:
            UserError: a worker ended, or took longer than ``WORKER_TIMEOUT_SECONDS`` for a chunk.
        """


class InProcess(Backend):
    """Tokenizes one chunk after the other in this process."""

    def results(self, chunks: Iterator[Chunk]) -> Iterator[TokenizedChunk]:
        """See ``Backend.results``."""
        return map(self.tokenize, chunks)


class LocalProcesses(Backend):
    """Worker processes on this machine; one thread per process sends a chunk and waits for the answer.

    The processes are started as plain commands. A fork of a process that has threads and torch can deadlock, and
    multiprocessing's spawn would import the main module, with torch, in each worker.
    """

    def __enter__(self) -> Self:
        self._workers = [WorkerProcess(self.tokenize) for _ in range(self.num_workers)]
        self._threads = ThreadPoolExecutor(self.num_workers)
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.stop()
        self._threads.shutdown()

    def results(self, chunks: Iterator[Chunk]) -> Iterator[TokenizedChunk]:
        """See ``Backend.results``; an exception in a worker is raised here."""
        idle: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        for worker in self._workers:
            idle.put(worker)

        def tokenize(chunk: Chunk) -> TokenizedChunk:
            worker = idle.get()
            try:
                return worker(chunk)
            finally:
                idle.put(worker)

        return in_order(lambda chunk: self._threads.submit(tokenize, chunk), Future.result, chunks, self.num_workers)


class RayBackend(Backend):
    """Actors of a Ray cluster, one per requested CPU.

    ``RAY_ADDRESS`` names the cluster; without it, a local one is started and stopped again. Every machine of the
    cluster must see the source's files under the same path and have gpt2lab installed.
    """

    def __enter__(self) -> Self:
        try:
            import ray  # noqa: PLC0415
        except ImportError:
            raise not_installed("prepare.backend=ray", "ray", "'gpt2lab[ray]'") from None
        self._ray: Any = ray
        self._started = not self._ray.is_initialized()
        if self._started:
            local_cpus = None if os.environ.get("RAY_ADDRESS") else self.num_workers
            self._ray.init(log_to_driver=False, include_dashboard=False, logging_level="error", num_cpus=local_cpus)
        actor = self._ray.remote(num_cpus=1)(RayWorker)
        tokenize = self._ray.put(self.tokenize)
        self._actors = [actor.remote(tokenize) for _ in range(self.num_workers)]
        return self

    def __exit__(self, *exception: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

    def results(self, chunks: Iterator[Chunk]) -> Iterator[TokenizedChunk]:
        """See ``Backend.results``."""
        turns = itertools.cycle(self._actors)

        def result(reference: Any) -> TokenizedChunk:
            try:
                value: TokenizedChunk = self._ray.get(reference, timeout=CHUNKS_AHEAD * WORKER_TIMEOUT_SECONDS)
            except self._ray.exceptions.GetTimeoutError:
                raise UserError(
                    f"a Ray worker gave no answer for {CHUNKS_AHEAD * WORKER_TIMEOUT_SECONDS:.0f} seconds: check that "
                    "the cluster has free CPUs for prepare.num_workers and sees the files; the same command resumes"
                ) from None
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayActorError as error:
                raise UserError(
                    f"a Ray worker ended ({type(error).__name__}), possibly out of memory: type the command again to "
                    "resume, or lower prepare.num_workers"
                ) from None
            return value

        return in_order(lambda chunk: next(turns).tokenize.remote(chunk), result, chunks, self.num_workers)


class RayWorker:
    """The class of the Ray actors."""

    def __init__(self, tokenize: ChunkTokenizer) -> None:
        self._tokenize = tokenize

    def tokenize(self, chunk: Chunk) -> TokenizedChunk:
        """Tokenize one chunk."""
        return self._tokenize(chunk)


class WorkerProcess:
    """A process that runs ``worker.py``: pickled chunks go in, pickled results come out."""

    def __init__(self, tokenize: ChunkTokenizer) -> None:
        self._tokenize: ChunkTokenizer | None = tokenize
        search_path = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
        self._process = subprocess.Popen(
            # -P: nothing in the current folder is imported
            [sys.executable, "-P", "-m", "gpt2lab.data.preparation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": search_path, "OMP_NUM_THREADS": "1"},
        )

    def __call__(self, chunk: Chunk) -> TokenizedChunk:
        """Tokenize one chunk in the process; an exception there is raised here.

        Raises:
            UserError: the process ended, or took longer than ``WORKER_TIMEOUT_SECONDS``.
        """
        timed_out = threading.Event()

        def end_hung_process() -> None:
            timed_out.set()
            self._process.kill()

        timer = threading.Timer(WORKER_TIMEOUT_SECONDS, end_hung_process)
        timer.start()
        try:
            result, error = self._exchange(chunk)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            where = chunk.spans[0].path if chunk.spans else "the source"
            if timed_out.is_set():
                raise UserError(
                    f"a worker process gave no answer for {WORKER_TIMEOUT_SECONDS:.0f} seconds while it read {where}: "
                    "check that the file can be read; the same command then resumes"
                ) from None
            raise UserError(
                f"a worker process ended with status {self._process.wait()} while it read {where}, possibly out of "
                "memory: type the command again to resume, with prepare.num_workers=1 for less memory"
            ) from None
        finally:
            timer.cancel()
        if error is not None:
            raise error
        assert isinstance(result, TokenizedChunk)
        return result

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe:
                    pipe.close()
            except BrokenPipeError:  # unsent data is not needed any more
                pass

    def _exchange(self, chunk: Chunk) -> tuple[object, BaseException | None]:
        assert self._process.stdin
        assert self._process.stdout
        if self._tokenize is not None:  # sent with the first chunk, so that all workers start up at the same time
            send(self._process.stdin, self._tokenize)
            self._tokenize = None
        send(self._process.stdin, chunk)
        answer: tuple[object, BaseException | None] = pickle.load(self._process.stdout)
        return answer


def in_order(
    submit: Callable[[Chunk], Any],
    result: Callable[[Any], TokenizedChunk],
    chunks: Iterator[Chunk],
    num_workers: int,
) -> Iterator[TokenizedChunk]:
    """Submit ``CHUNKS_AHEAD`` chunks per worker at most, and yield the results in the order of the chunks."""
    pending: deque[Any] = deque()
    for chunk in chunks:
        pending.append(submit(chunk))
        if len(pending) == CHUNKS_AHEAD * num_workers:
            yield result(pending.popleft())
    while pending:
        yield result(pending.popleft())


def send(pipe: IO[bytes], value: object) -> None:
    """Write a pickled value to a pipe."""
    pickle.dump(value, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


BACKENDS: dict[str, Callable[[ChunkTokenizer, int], Backend]] = {"local": LocalProcesses, "ray": RayBackend}
