"""The training loop.

    batch(step) -> this process's rows -> micro-batches -> summed nll / scored tokens -> gradients, averaged over
    processes -> clip -> optimizer -> log, validate, save

All that changes is in the model, the optimizer and ``Progress``; data, learning rate and dropout are functions of
(seed, step). So a run that was killed and started again from a checkpoint takes the steps of one that was not, and
another number of processes sees the same batches.
"""

import dataclasses
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from gpt2lab.checkpoint import CheckpointManager
from gpt2lab.config import TrainingConfig, UserError
from gpt2lab.data import TrainBatches, ValWindows
from gpt2lab.distributed import World
from gpt2lab.evaluation.feed import TensorBatch
from gpt2lab.evaluation.perplexity import Perplexity, score_batches
from gpt2lab.model import GPT, Layout
from gpt2lab.runtime import Runtime, stream_seed
from gpt2lab.training.metrics import MetricsLog
from gpt2lab.training.optimizer import Optimizers

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StoppedError(Exception):
    """A signal asked the run to end; its state is saved."""

    def __init__(self, number: int, step: int, run_dir: Path) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name} at step {step}, which is saved; to go on, add run_dir={run_dir} "
            "resume=auto"
        )
        self.signal = number


@dataclass
class Progress:
    """Where the run stands; saved with every checkpoint."""

    step: int = 0
    """optimizer steps taken"""
    train_seconds: float = 0.0
    """time in training steps, over all processes this run has had"""
    wall_seconds: float = 0.0
    """time in the loop, validation included, saving not"""
    best_val_loss: float = math.inf
    """lowest validation loss so far"""
    skipped_steps: int = 0
    """steps without an update, because loss or gradient was no number"""
    skipped_in_a_row: int = 0
    """of those, the last ones without a good step between"""

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        for key, value in state.items():
            setattr(self, key, value)


@dataclass
class Validator:
    """Scores the model on fixed windows of the validation split."""

    windows: ValWindows
    token_lengths: np.ndarray[Any, np.dtype[np.int64]]
    batch_size: int
    runtime: Runtime
    world: World

    def __call__(self, model: GPT) -> Perplexity:
        """The windows' perplexity, without dropout; training is left as it was. Processes take every other batch."""
        firsts = range(0, len(self.windows), self.batch_size)[self.world.rank :: self.world.size]
        batches = (self.windows.batch(i, min(i + self.batch_size, len(self.windows))) for i in firsts)
        part = score_batches(model, batches, self.token_lengths, self.runtime)
        nll, tokens, n_bytes = self.world.sum(torch.tensor([part.nll, part.tokens, part.bytes], dtype=torch.float64))
        return Perplexity(nll.item(), int(tokens), int(n_bytes))


class SummedLoss(nn.Module):
    """The model as one call from ids to loss, which is what processes synchronise around."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs_BT: Tensor, targets_BT: Tensor, layout: Layout | None) -> Tensor:
        """Summed negative log-likelihood."""
        return self.model.nll_sum(inputs_BT, targets_BT, layout=layout)


@dataclass
class Trainer:
    """A run, from the parts that ``build_trainer`` made."""

    model: GPT
    optimizer: Optimizers
    lr_share: Callable[[int], float]
    batches: TrainBatches
    load: Callable[[int], TensorBatch]
    """batch k of ``batches`` as tensors"""
    validator: Validator
    checkpoints: CheckpointManager
    metrics: MetricsLog
    progress: Progress
    runtime: Runtime
    settings: TrainingConfig
    micro_batch_size: int
    total_steps: int
    seed: int
    world: World

    def __post_init__(self) -> None:
        self.loss = self.world.synchronised(SummedLoss(self.model))
        self.stop_signal = 0
        """the last one received; 0: none"""

    def run(self) -> Perplexity:
        """Train from ``progress.step`` to ``total_steps``; return the final validation.

        Raises:
            StoppedError: a process received SIGTERM, SIGINT or SIGUSR1; the state is saved.
            UserError: loss or gradient was no number too often in a row; the weights are those of the last good step.
        """
        if self.world.is_main:
            self.metrics.start(self.progress.step)
        if self.progress.step >= self.total_steps:
            return self.validator(self.model)
        hidden = None if self.world.is_main else True  # None: shown on a terminal only
        with (
            tqdm(
                total=self.total_steps, initial=self.progress.step, unit="step", dynamic_ncols=True, disable=hidden
            ) as bar,
            self._noting_signals(),
        ):
            while self.progress.step < self.total_steps:
                started = time.perf_counter()
                figures = self.train_step(self.progress.step)
                seconds = time.perf_counter() - started
                self.progress.step += 1
                self.progress.train_seconds += seconds
                tokens_per_second = round(self.settings.batch_tokens / seconds)
                bar.set_postfix(loss=f"{figures['loss']:.3f}", tok_s=tokens_per_second, refresh=False)
                bar.update()
                if self.progress.step == 1 or self._is_due(self.settings.log_every):
                    self._log(**figures, tokens_per_second=tokens_per_second)
                validation = self._validate() if self._is_due(self.settings.eval_every) else None
                self.progress.wall_seconds += time.perf_counter() - started
                stopped = self._agreed_signal()
                best = validation is not None and validation.loss < self.progress.best_val_loss
                if self._is_due(self.settings.checkpoint_every) or best or stopped:
                    self._save(validation)
                if stopped:
                    raise StoppedError(stopped, self.progress.step, self.metrics.path.parent)
        assert validation is not None  # it is always due at the last step
        return validation

    def train_step(self, step: int) -> dict[str, float]:
        """One optimizer step; the loss is the mean over the whole batch, the gradient norm is before clipping."""
        world = self.world
        batch = self.load(step).to(self.runtime.device)
        # documents that are packed whole leave padding, in each process another amount
        scored = int(world.sum(torch.tensor(batch.scored)))
        self.optimizer.set_lr(self.lr_share(step))
        # all that dropout draws from, so that step k drops the same units after a resume
        torch.manual_seed(stream_seed("dropout", self.seed, step, world.rank))
        loss = torch.zeros((), device=self.runtime.device)
        micro_batches = list(batch.split(self.micro_batch_size))
        for number, micro_batch in enumerate(micro_batches, start=1):
            with self._gradients_stay_here() if number < len(micro_batches) else nullcontext():
                with self.runtime.autocast():
                    nll = self.loss(*micro_batch)
                # the mean over the global batch, times the number of processes, by which the gradients are divided
                (nll * world.size / scored).backward()
            loss += nll.detach() / scored
        world.sum(loss)
        grad_norm = clip_grad_norm_(self.model.parameters(), self.settings.grad_clip or math.inf)
        figures = {"loss": loss.item(), "grad_norm": grad_norm.item(), "lr": self.optimizer.groups[0]["lr"]}
        if math.isfinite(figures["loss"]) and math.isfinite(figures["grad_norm"]):
            self.optimizer.step()
            self.progress.skipped_in_a_row = 0
        else:
            self._skip(step, figures)
        self.optimizer.zero_grad()
        return figures

    def _skip(self, step: int, figures: dict[str, float]) -> None:
        """Count a step whose update would have ruined the weights; give up after too many in a row."""
        self.progress.skipped_steps += 1
        self.progress.skipped_in_a_row += 1
        broken = [
            name for name, p in self.model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()
        ]
        evidence = (
            f"step {step + 1}: loss {figures['loss']}, gradient norm {figures['grad_norm']}, learning rate "
            f"{figures['lr']:.2e}, no numbers in the gradients of {len(broken)} parameters"
            f"{f', first {broken[0]}' if broken else ''}"
        )
        if self.progress.skipped_in_a_row > self.settings.max_skips:
            raise UserError(
                f"{evidence}; {self.progress.skipped_in_a_row} steps in a row (training.max_skips="
                f"{self.settings.max_skips}): training diverged; lower optimizer.lr; the checkpoints hold good weights"
            )
        log.warning("%s: skipped (%d in all)", evidence, self.progress.skipped_steps)

    def _gradients_stay_here(self) -> AbstractContextManager[None]:
        """Forward and backward within it leave the averaging over processes to a later micro-batch."""
        return self.loss.no_sync() if isinstance(self.loss, DistributedDataParallel) else nullcontext()

    @contextmanager
    def _noting_signals(self) -> Iterator[None]:
        """Note a signal that asks for an end; the step that is being taken is finished first."""

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

    def _agreed_signal(self) -> int:
        """A signal that any process has received, the same in all; 0: none."""
        received = torch.zeros(signal.NSIG, dtype=torch.int32)
        received[self.stop_signal] = 1
        received[0] = 0
        return int(self.world.sum(received).argmax())

    def _is_due(self, every: int) -> bool:
        """Whether something done every so many steps (0: at the end alone) is done after this step."""
        return self.progress.step == self.total_steps or (every > 0 and self.progress.step % every == 0)

    def _validate(self) -> Perplexity:
        result = self.validator(self.model)
        self._log(val_loss=result.loss, val_perplexity=result.token_perplexity, val_bits_per_byte=result.bits_per_byte)
        log.info(
            "step %6d  val loss %.4f  perplexity %.2f  bits per byte %.4f",
            self.progress.step, result.loss, result.token_perplexity, result.bits_per_byte,
        )  # fmt: skip
        return result

    def _save(self, validation: Perplexity | None) -> None:
        val_loss = validation.loss if validation else math.inf
        best = val_loss < self.progress.best_val_loss
        if best:
            self.progress.best_val_loss = val_loss
        if self.world.is_main:
            self.checkpoints.save(self.progress.step, best=best)

    def _log(self, **figures: float) -> None:
        if self.world.is_main:
            self.metrics.write(self.progress.step, self.progress.step * self.settings.batch_tokens, **figures)
