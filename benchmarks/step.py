"""A training step and a checkpoint with the runtime's switches on and off, side by side in one run.

    python benchmarks/step.py [--layers 6] [--width 384] [--device cpu]

Prints two Markdown tables: seconds a step (the median, the ways taken in turn) with the bytes that forward keeps for
backward; and how long training stands still for a checkpoint.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gpt2lab.checkpoint import BackgroundCheckpoints, CheckpointManager
from gpt2lab.config import ModelConfig, OptimizerConfig, RuntimeConfig, TrainingConfig
from gpt2lab.distributed import World
from gpt2lab.evaluation.device_batches import TensorBatch
from gpt2lab.model import GPT
from gpt2lab.runtime import open_runtime
from gpt2lab.training.build import prepare_blocks
from gpt2lab.training.loss_scale import LossScale
from gpt2lab.training.optimizer import Optimizers, adamw
from gpt2lab.training.state import TrainState
from gpt2lab.training.update import Update

ROWS, T, STEPS = 8, 256, 7


def make_update(config: ModelConfig, runtime_config: RuntimeConfig) -> Update:
    """A model of its own with these switches."""
    runtime = open_runtime(runtime_config)
    model = GPT(config).to(runtime.device)
    prepare_blocks(model.blocks, runtime_config)
    optimizer = Optimizers(adamw(model, OptimizerConfig(), 1e-3))
    settings = TrainingConfig(max_steps=100)
    return Update(model, optimizer, TrainState(LossScale(runtime)), settings, ROWS, 0, runtime, World())


def kept_bytes(update: Update, batch: TensorBatch) -> int:
    """Bytes of all different tensors, parameters apart, that a step keeps for backward."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in update.model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), update.runtime.autocast():
        update.loss(batch.inputs_BT, batch.targets_BT, None)
    return sum(kept.values())


def steps(config: ModelConfig, device: str) -> None:
    """The first table."""
    switches = {
        "plain": {},
        "compile": {"compile": True},
        "activation_checkpointing": {"activation_checkpointing": True},
    }
    updates = {name: make_update(config, RuntimeConfig(device=device, **on)) for name, on in switches.items()}
    ids = torch.randint(config.vocab_size, (ROWS, T + 1))
    seconds: dict[str, list[float]] = {name: [] for name in updates}
    for step in range(STEPS):
        for name, update in updates.items():
            batch = TensorBatch(ids[:, :-1], ids[:, 1:], None, ROWS * T).to(update.runtime.device)
            started = time.perf_counter()
            update(step, batch, 1.0).read()  # waits for the device
            seconds[name].append(time.perf_counter() - started)
    plain = statistics.median(seconds["plain"][2:])
    print("| switch | first step | seconds a step | speed | kept for backward |\n|---|---|---|---|---|")
    for name, update in updates.items():
        median = statistics.median(seconds[name][2:])
        kept = kept_bytes(update, TensorBatch(ids[:, :-1], ids[:, 1:], None, ROWS * T).to(update.runtime.device))
        print(f"| {name} | {seconds[name][0]:.2f} | {median:.3f} | {plain / median:.2f} | {kept / 1e6:,.0f} MB |")


def saves(config: ModelConfig, device: str) -> None:
    """The second table."""
    update = make_update(config, RuntimeConfig(device=device))
    ids = torch.randint(config.vocab_size, (ROWS, T + 1))
    update(0, TensorBatch(ids[:, :-1], ids[:, 1:], None, ROWS * T).to(update.runtime.device), 1.0)
    parts = {"model": update.model, "optimizer": update.optimizer}
    managers: dict[str, Callable[[Path], CheckpointManager]] = {
        "at once": lambda folder: CheckpointManager(folder, parts, {}, 2),
        "in the background": lambda folder: BackgroundCheckpoints(folder, parts, {}, 2),
    }
    print("\n| checkpoint | training stands still | written after |\n|---|---|---|")
    for name, make in managers.items():
        pauses, wholes = [], []
        with tempfile.TemporaryDirectory() as folder:
            manager = make(Path(folder))
            for step in range(4):
                started = time.perf_counter()
                manager.save(step, best=False)
                pauses.append(time.perf_counter() - started)
                manager.wait()
                wholes.append(time.perf_counter() - started)
        print(f"| {name} | {statistics.median(pauses):.2f} s | {statistics.median(wholes):.2f} s |")


def main() -> None:
    """Measure on the device asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    config = ModelConfig(n_layer=arguments.layers, n_head=arguments.width // 64, n_embd=arguments.width, block_size=T)
    runtime = open_runtime(RuntimeConfig(device=arguments.device))
    print(
        f"{GPT(config).num_parameters():,} parameters, {ROWS} x {T} tokens, {runtime.device}, {runtime.precision}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads\n"
    )
    steps(config, arguments.device)
    saves(config, arguments.device)


if __name__ == "__main__":
    main()
