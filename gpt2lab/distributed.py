"""Several processes as one run: their ranks, their collectives, and how they are started.

    torchrun, or gpt2lab.cli.launching for runtime.num_processes=N -> N processes -> open_world() in each -> World

The main process alone writes files (run directory, metrics, checkpoints); the others receive what they need from it
through ``World.on_main``. A GPU is bound to its process by ``gpt2lab.runtime.open_runtime``, after validation.
"""

import functools
import gc
import itertools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

TIMEOUT = timedelta(days=2)
"""how long the other processes wait for rank 0, which may have a large corpus to tokenize first; when a process dies,
the launcher ends the others at once, so a long time costs nothing"""

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The processes of a run, and the rank of this one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """rank among the processes of this machine"""
    local_size: int = 1
    """processes on this machine"""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes, in place; every process gets it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def on_main(self, function: Callable[[], Value]) -> Value:
        """What ``function`` returns in the main process, in all; an exception there ends the others silently.

        They end with status 0, so that what started the processes reports the status of the main one, whichever ends
        first.
        """
        if self.size == 1:
            return function()
        answer: list[Any] = [False, None]
        try:
            if self.is_main:
                answer = [True, function()]
        finally:
            dist.broadcast_object_list(answer)  # also after a failure: the others would wait for it
        succeeded, value = answer
        if not succeeded:
            sys.exit(0)
        return value


ALONE = World()
"""of work that one process does by itself, whether there are others or not"""


def is_launched() -> bool:
    """Whether torchrun or ``gpt2lab.cli.launching`` started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def open_world() -> World:
    """Join the other processes, if torchrun or ``gpt2lab.cli.launching`` started any."""
    if not is_launched():
        return World()
    world = World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
    if world.size > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store = PrefixStore(f"world_{next(_openings)}", _shared_store())
        dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=TIMEOUT)
    return world


_openings = itertools.count()
"""Numbers the worlds that this process opens: the addresses of an earlier one must not be taken for the next one's."""


@functools.cache
def _shared_store() -> Store:
    """Where the processes find each other's addresses; rank 0 or torchrun serves it as long as the processes run."""
    store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    return store


def close_world() -> None:
    """Leave, after a run that ended well; after a failure the others may not answer any more.

    Free what DDP has wrapped first. DDP's reducer refers to the process group, and if it is the last to do so, it ends
    the group's threads while it holds Python's global lock, for which a gloo thread may wait to free a tensor: the
    process then never ends (https://github.com/pytorch/pytorch/issues/56297).
    """
    if dist.is_initialized():
        gc.collect()  # for wrapped models in reference cycles
        dist.destroy_process_group()
