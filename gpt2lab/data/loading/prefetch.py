"""Batches read in the background, while the step before is computed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Loaded = TypeVar("Loaded")


class Prefetcher(Generic[Loaded]):
    """``load``, called ahead: asked for batch k, it has the next ``depth`` ones read by a thread.

    What a batch holds does not depend on it, since batch k is a function of k; a step out of turn is read at once.
    """

    def __init__(self, load: Callable[[int], Loaded], depth: int = 2) -> None:
        self._load = load
        self._depth = depth
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._waiting: dict[int, Future[Loaded]] = {}

    def __call__(self, step: int) -> Loaded:
        """Batch ``step``; an error in reading it is raised here."""
        wanted = range(step, step + self._depth + 1)
        self._waiting = {k: f for k, f in self._waiting.items() if k in wanted or f.cancel() is None}
        for number in wanted:
            if number not in self._waiting:
                self._waiting[number] = self._thread.submit(self._load, number)
        return self._waiting.pop(step).result()
