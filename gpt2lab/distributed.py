"""Several processes as one run: who this one is, what they agree on, and how they are started.

    torchrun, or launch() for runtime.num_processes=N -> N processes -> open_world() in each -> World

Everything that a run does besides the arithmetic (folders, record, checkpoints) is the main process's; the others
learn what they need through ``World.on_main``.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun
from torch.nn.parallel import DistributedDataParallel

from gpt2lab.config import RankFailedError

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The processes of a run, and this one's place among them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """number on this machine, which is also its GPU's"""

    @property
    def is_main(self) -> bool:
        """Whether this process keeps the record."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes, in place; every process gets it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def on_main(self, function: Callable[[], Value]) -> Value:
        """What ``function`` returns in the main process, in all; an exception there ends the others silently."""
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
            sys.exit(1)
        return value

    def synchronised(self, module: nn.Module) -> nn.Module:
        """``module`` with gradients averaged over processes in backward, and rank 0's weights to start from."""
        if self.size == 1:
            return module
        on_gpu = next(module.parameters()).is_cuda
        return DistributedDataParallel(
            module, device_ids=[self.local_rank] if on_gpu else None, gradient_as_bucket_view=True
        )


def is_launched() -> bool:
    """Whether torchrun or ``launch`` started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def open_world() -> World:
    """Join the other processes, if torchrun or ``launch`` started any."""
    if not is_launched():
        return World()
    world = World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    if world.size > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(world.local_rank)
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return world


def close_world() -> None:
    """Leave, after a run that ended well; after a failure the others may not answer any more."""
    if dist.is_initialized():
        dist.destroy_process_group()


def launch(num_processes: int, command: Sequence[str]) -> None:
    """Run ``command`` (a script or ``--module NAME``, and its arguments) in several processes on this machine.

    Raises:
        RankFailedError: one of them failed, which ends all.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what failed is said by the process
    try:
        torchrun(["--standalone", f"--nproc-per-node={num_processes}", *command])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise RankFailedError(
            f"process {rank} of {num_processes} ended with status {failure.exitcode}; its message is above",
            abs(failure.exitcode),
        ) from error
    except SignalException as error:
        raise RankFailedError(
            f"stopped by {error.sigval.name}; all processes have ended", 128 + error.sigval
        ) from error
