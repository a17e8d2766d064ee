"""Checkpoint states of a model and an optimizer whose tensors FSDP has split: those of a run without FSDP.

So any number of processes resumes from them, with FSDP or without. The main process alone keeps what it gathers: the
others write nothing, and on one machine their copies would fill the host's memory.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from gpt2lab.distributed import World
from gpt2lab.training.optimizer import Optimizers
from gpt2lab.training.sharding import own_part, split_like, whole


def gathered(tensor: Tensor, world: World) -> Tensor:
    """The rows of all processes, on the CPU of the main one, and no rows in the others; every process must call it."""
    rows = whole(tensor.detach())
    return rows.cpu() if world.is_main else rows.new_empty(0, device="cpu")


class WholeModelState:
    """The state of a model with split parameters, saved and loaded as that of a model without.

    Args:
        model: its parameters may be split.
        world: the processes that have the parts.
    """

    def __init__(self, model: nn.Module, world: World) -> None:
        self.model, self.world = model, world

    def state_dict(self) -> dict[str, Any]:
        """Whole tensors on the CPU of the main process, one after the other; every process must call it."""
        return {name: gathered(tensor, self.world) for name, tensor in self.model.state_dict().items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this process's rows of each tensor; ``ValueError`` if names or shapes differ."""
        own = self.model.state_dict()
        if differing := sorted(own.keys() ^ state.keys()):
            raise ValueError(f"the names {', '.join(differing)} do not match")
        for name, tensor in own.items():
            if state[name].shape != tensor.shape:
                raise ValueError(f"{name} has shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}")
            own_part(tensor).copy_(own_part(split_like(state[name], tensor)))


class WholeOptimizerState:
    """The same for the optimizers of split parameters.

    Args:
        optimizers: of the model's parameters.
        world: the processes that have the parts.
    """

    def __init__(self, optimizers: Optimizers, world: World) -> None:
        self.optimizers, self.world = optimizers, world

    def state_dict(self) -> dict[str, Any]:
        """The state with whole moments on the CPU of the main process; every process must call it."""
        states = self.optimizers.state_dict()
        for part in states.values():
            part["state"] = {
                number: {
                    name: gathered(value, self.world) if isinstance(value, DTensor) else value
                    for name, value in of.items()
                }
                for number, of in part["state"].items()
            }
        return states

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See ``Optimizers.load_state_dict``, which splits each moment as its parameter."""
        self.optimizers.load_state_dict(state)
