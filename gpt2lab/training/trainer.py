"""The training loop.

    batch(step) -> this process's rows -> update -> log -> validate -> sample -> save

All that changes is in the model, the optimizer and what ``progress.py`` counts; data, learning rate and dropout are
functions of (seed, step). So a run that was killed and started again from a checkpoint takes the steps of one that was
not, and another number of processes sees the same batches.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import get_total_norm
from tqdm import tqdm

from gpt2lab.checkpoint import CheckpointManager
from gpt2lab.config import StoppedError, TrainingConfig
from gpt2lab.data import Batch, TrainBatches, ValidationBatches
from gpt2lab.distributed import World
from gpt2lab.evaluation.device_batches import TensorBatch
from gpt2lab.evaluation.scoring import Perplexity, score_batches
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime
from gpt2lab.training.metrics import MetricsLog, peak_memory_bytes
from gpt2lab.training.profile import Profiler
from gpt2lab.training.progress import Progress
from gpt2lab.training.samples import Sampler
from gpt2lab.training.spikes import SpikeWatch
from gpt2lab.training.throughput import Throughput
from gpt2lab.training.update import Update

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def stopped_error(number: int, step: int, run_dir: Path) -> StoppedError:
    """The error that ends a run after a signal."""
    return StoppedError(
        f"stopped by {signal.Signals(number).name} at step {step}, which is saved; to continue, type "
        f"python train.py from={run_dir} resume=auto",
        number,
    )


class AskedToStop(BaseException):  # noqa: N818: like KeyboardInterrupt, whose kind it is
    """A signal was received, by this process or another; the number is its argument."""


@dataclass
class Validator:
    """Scores the model on fixed windows of the validation split."""

    windows: ValidationBatches
    token_lengths: np.ndarray[Any, np.dtype[np.int64]]
    batch_size: int
    runtime: Runtime
    world: World

    def __call__(self, model: GPT, before_batch: Callable[[], None] = lambda: None) -> Perplexity:
        """The windows' perplexity, without dropout; training is left as it was. Processes take every other batch.

        ``before_batch`` is called equally often in all processes.
        """
        part = score_batches(model, self._own_batches(before_batch), self.token_lengths, self.runtime)
        nll, tokens, n_bytes = self.world.sum(torch.tensor([part.nll, part.tokens, part.bytes], dtype=torch.float64))
        return Perplexity(nll.item(), int(tokens), int(n_bytes))

    def _own_batches(self, before_batch: Callable[[], None]) -> Iterator[Batch]:
        for first in range(0, len(self.windows), self.batch_size * self.world.size):
            before_batch()
            own = first + self.batch_size * self.world.rank
            if own < len(self.windows):
                yield self.windows.batch(own, min(own + self.batch_size, len(self.windows)))


@dataclass
class Trainer:
    """A run, from the parts that ``build_trainer`` made."""

    model: GPT
    update: Update
    lr_share: Callable[[int], float]
    batches: TrainBatches
    load: Callable[[int], TensorBatch]
    """batch k of ``batches`` as tensors"""
    validator: Validator
    sampler: Sampler
    checkpoints: CheckpointManager
    metrics: MetricsLog
    progress: Progress
    spikes: SpikeWatch
    throughput: Throughput
    profiler: Profiler
    runtime: Runtime
    settings: TrainingConfig
    total_steps: int
    world: World

    def __post_init__(self) -> None:
        self.stop_signal = 0
        """the last one received; 0: none"""
        self.saved_step = -1

    def run(self) -> Perplexity:
        """Train from ``progress.step`` to ``total_steps``; return the final validation.

        Raises:
            StoppedError: a process received SIGTERM, SIGINT or SIGUSR1; the state is saved.
            UserError: loss or gradient was no number too often in a row; the weights are those of the last good step.
        """
        if self.world.is_main:
            self.metrics.start(self.progress.step, self.progress.run_id)
        validation = None
        with self._bar() as bar, self._noting_signals(), self.profiler:
            try:
                while self.progress.owes_validation or self.progress.step < self.total_steps:
                    if not self.progress.owes_validation:
                        self._advance(bar)
                    validation = self._look()
                    self._raise_if_asked_to_stop()
            except AskedToStop as asked:
                if self.saved_step != self.progress.step:
                    self._save(best=False)
                self.checkpoints.wait()
                raise stopped_error(asked.args[0], self.progress.step, self.metrics.path.parent) from None
            self.checkpoints.wait()
        return validation or self.validator(self.model)

    def train_step(self, step: int) -> dict[str, float]:
        """One optimizer step: its loss, gradient norm and learning rate."""
        started = time.perf_counter()
        batch = self.load(step)
        self.throughput.waiting += time.perf_counter() - started
        return self.update(step, batch.to(self.runtime.device), self.lr_share(step))

    def _advance(self, bar: "tqdm[Any]") -> None:
        """Take a step, and write of it what is due."""
        started = time.perf_counter()
        figures = self.train_step(self.progress.step)
        seconds = time.perf_counter() - started
        self.progress.step += 1
        self.progress.train_seconds += seconds
        self.progress.wall_seconds += seconds
        self.throughput.tokens += self.settings.batch_tokens
        self.throughput.seconds += seconds
        self.profiler.step()
        bar.set_postfix(loss=f"{figures['loss']:.3f}", tok_s=round(self.settings.batch_tokens / seconds), refresh=False)
        bar.update()
        if math.isfinite(figures["loss"]) and self.spikes(figures["loss"]):
            log.warning(
                "step %d: the loss jumped to %.3f, gradient norm %.2f", self.progress.step, figures["loss"],
                figures["grad_norm"],
            )  # fmt: skip
        if self.progress.step == 1 or self._is_due(self.settings.log_every):
            self._log(
                **figures,
                param_norm=get_total_norm([p.detach() for p in self.model.parameters()]).item(),
                **self.throughput.take(),
                memory_bytes=peak_memory_bytes(self.runtime.device),
            )

    def _look(self) -> Perplexity | None:
        """Validate, sample and save, each where it is due after this step."""
        validation, best = None, False
        if self.progress.owes_validation or self._is_due(self.settings.eval_every):
            self.progress.owes_validation = True
            validation = self._validate()
            self.progress.owes_validation = False
            best = validation.loss < self.progress.best_val_loss
            if best:
                self.progress.best_val_loss = validation.loss
            every = self.sampler.config.every
            if every and self._is_due(every * self.settings.eval_every) and self.world.is_main:
                self.metrics.write_samples(self.progress.step, self.sampler(self.model))
        if best or self._is_due(self.settings.checkpoint_every):
            self._save(best=best)
        return validation

    def _validate(self) -> Perplexity:
        started = time.perf_counter()
        result = self.validator(self.model, before_batch=self._raise_if_asked_to_stop)
        self.progress.wall_seconds += time.perf_counter() - started
        self._log(val_loss=result.loss, val_perplexity=result.token_perplexity, val_bits_per_byte=result.bits_per_byte)
        log.info(
            "step %6d  val loss %.4f  perplexity %.2f  bits per byte %.4f",
            self.progress.step, result.loss, result.token_perplexity, result.bits_per_byte,
        )  # fmt: skip
        return result

    def _save(self, *, best: bool) -> None:
        if self.world.is_main:
            self.checkpoints.save(self.progress.step, best=best)
        self.saved_step = self.progress.step

    def _is_due(self, every: int) -> bool:
        """Whether something done every so many steps (0: at the end alone) is done after this step."""
        return self.progress.step == self.total_steps or (every > 0 and self.progress.step % every == 0)

    def _log(self, **figures: float) -> None:
        if self.world.is_main:
            self.metrics.write(self.progress.step, self.progress.step * self.settings.batch_tokens, **figures)

    def _bar(self) -> "tqdm[Any]":
        hidden = None if self.world.is_main else True  # None: shown on a terminal only
        return tqdm(total=self.total_steps, initial=self.progress.step, unit="step", dynamic_ncols=True, disable=hidden)

    @contextmanager
    def _noting_signals(self) -> Iterator[None]:
        """Note a signal that asks for an end; what is being done is brought to a point from which a run can go on."""

        def note(number: int, frame: object) -> None:
            if self.stop_signal == number == signal.SIGINT:
                raise KeyboardInterrupt  # asked twice: at once
            self.stop_signal = number

        before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _raise_if_asked_to_stop(self) -> None:
        """Raise in all processes together if any of them has received a signal."""
        received = torch.zeros(signal.NSIG, dtype=torch.int32)
        received[self.stop_signal] = 1
        received[0] = 0
        if number := int(self.world.sum(received).argmax()):
            raise AskedToStop(number)
