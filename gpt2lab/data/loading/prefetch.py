"""Reads batches in a thread while the model computes the step before."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Loaded = TypeVar("Loaded")


class Prefetcher(Generic[Loaded]):
    """Calls ``load`` ahead: when batch k is requested, a thread reads the next ``depth`` batches.

    Batch k is a function of k, so that prefetching does not change it; a step out of order is read at once.
    """

    def __init__(self, load: Callable[[int], Loaded], depth: int = 2) -> None:
        self._load = load
        self._depth = depth
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._pending: dict[int, Future[Loaded]] = {}

    def __call__(self, step: int) -> Loaded:
        """Batch ``step``; an exception in reading it is raised here."""
        wanted = range(step, step + self._depth + 1)
        for number in [number for number in self._pending if number not in wanted]:
            self._pending.pop(number).cancel()
        for number in wanted:
            if number not in self._pending:
                self._pending[number] = self._thread.submit(self._load, number)
        return self._pending.pop(step).result()
