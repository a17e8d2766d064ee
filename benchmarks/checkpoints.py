"""Saving and loading a model and its optimizer: complete, hashed and synced, against ``torch.save``."""

import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Pair
from benchmarks.models import our_model
from gpt2lab.checkpoint import BackgroundCheckpoints, CheckpointManager, list_checkpoints


def parts_of(case: Mapping[str, Any]) -> dict[str, Any]:
    """A model and the AdamW state of one step."""
    model = our_model(case)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {"model": model, "optimizer": optimizer}


def save(case: Mapping[str, Any]) -> Callable[[], float]:
    """The whole write."""
    manager, steps = CheckpointManager(Path(tempfile.mkdtemp()), parts_of(case), {}, 1), itertools.count(1)

    def run() -> float:
        manager.save(next(steps), best=False)
        return 1

    return run


def pause(case: Mapping[str, Any]) -> Callable[[], float]:
    """What training waits for, with ``training.background_checkpoints``: the copy of the state."""
    manager, steps = BackgroundCheckpoints(Path(tempfile.mkdtemp()), parts_of(case), {}, 1), itertools.count(1)

    def run() -> float:
        manager.save(next(steps), best=False)
        return 1

    return run


def load(case: Mapping[str, Any]) -> Callable[[], float]:
    """Verify and load."""
    folder = Path(tempfile.mkdtemp())
    manager = CheckpointManager(folder, parts_of(case), {}, 1)
    manager.save(1, best=False)

    def run() -> float:
        manager.load(list_checkpoints(folder)[-1])
        return 1

    return run


def torch_save(case: Mapping[str, Any]) -> Callable[[], float]:
    """One file, neither hashed nor synced."""
    path, parts = Path(tempfile.mkdtemp()) / "checkpoint.pt", parts_of(case)

    def run() -> float:
        torch.save({name: part.state_dict() for name, part in parts.items()}, path)
        return 1

    return run


def torch_load(case: Mapping[str, Any]) -> Callable[[], float]:
    """``torch.load`` and ``load_state_dict``."""
    path, parts = Path(tempfile.mkdtemp()) / "checkpoint.pt", parts_of(case)
    torch.save({name: part.state_dict() for name, part in parts.items()}, path)

    def run() -> float:
        for name, state in torch.load(path, weights_only=True).items():
            parts[name].load_state_dict(state)
        return 1

    return run


WORKERS = {"save": save, "pause": pause, "load": load, "torch.save": torch_save, "torch.load": torch_load}
NANO = {"shape": "nano"}
PAIRS = [
    Pair("checkpoint nano, written", "save", "torch.save", NANO, unit="checkpoints", quick=True),
    Pair("checkpoint nano, pause of training", "pause", "torch.save", NANO, unit="checkpoints"),
    Pair("checkpoint nano, read", "load", "torch.load", NANO, unit="checkpoints", quick=True),
]
