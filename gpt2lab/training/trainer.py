"""The training loop.

    batch(step) -> micro-batches -> summed nll / scored tokens -> gradients -> clip -> optimizer -> log, validate, save

All that changes is in the model, the optimizer and ``Progress``; data, learning rate and dropout are functions of
(seed, step). So a run that was killed and started again from a checkpoint takes the steps of one that was not.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from gpt2lab.checkpoint import CheckpointManager
from gpt2lab.config import TrainingConfig, UserError
from gpt2lab.data import IGNORE_INDEX, Batch, TrainBatches, ValWindows
from gpt2lab.evaluation.perplexity import Perplexity, score_batches
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime, stream_seed
from gpt2lab.training.metrics import MetricsLog
from gpt2lab.training.optimizer import NamedOptimizer

log = logging.getLogger(__name__)


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

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.__init__(**state)  # type: ignore[misc]


class HostBatch(NamedTuple):
    """A ``Batch`` as tensors that wait to be copied to the device."""

    inputs: Tensor
    targets: Tensor
    pos: Tensor | None
    segment: Tensor | None
    scored: int
    """targets that are no padding: what the batch's loss is divided by"""


def on_host(batch: Batch, runtime: Runtime) -> HostBatch:
    """``batch`` as tensors, in pinned memory where that lets a GPU fetch them while it computes."""
    pin = runtime.device.type == "cuda"
    tensors = [None if ids is None else torch.from_numpy(ids) for ids in batch]
    inputs, targets, pos, segment = (ids.pin_memory() if pin and ids is not None else ids for ids in tensors)
    assert inputs is not None
    assert targets is not None
    return HostBatch(inputs, targets, pos, segment, int(np.count_nonzero(batch.targets_BT != IGNORE_INDEX)))


@dataclass
class Validator:
    """Scores the model on fixed windows of the validation split."""

    windows: ValWindows
    token_lengths: np.ndarray[Any, np.dtype[np.int64]]
    batch_size: int
    runtime: Runtime

    def __call__(self, model: GPT) -> Perplexity:
        """The windows' perplexity, without dropout; training is left as it was."""
        firsts = range(0, len(self.windows), self.batch_size)
        batches = (self.windows.batch(i, min(i + self.batch_size, len(self.windows))) for i in firsts)
        pairs = ((batch.inputs_BT, batch.targets_BT) for batch in batches)
        return score_batches(model, pairs, self.token_lengths, self.runtime)


@dataclass
class Trainer:
    """A run, from the parts that ``build_trainer`` made."""

    model: GPT
    optimizer: NamedOptimizer
    learning_rate: Callable[[int], float]
    batches: TrainBatches
    load: Callable[[int], HostBatch]
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

    def run(self) -> Perplexity:
        """Train from ``progress.step`` to ``total_steps``; return the final validation.

        Raises:
            UserError: the loss or the gradient is no longer a number; the weights are those of the last good step.
        """
        self.metrics.rewind(self.progress.step)
        if self.progress.step >= self.total_steps:
            return self.validator(self.model)
        with tqdm(total=self.total_steps, initial=self.progress.step, unit="step", dynamic_ncols=True) as bar:
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
                if self._is_due(self.settings.checkpoint_every):
                    self._save(validation)
        assert validation is not None  # it is always due at the last step
        return validation

    def train_step(self, step: int) -> dict[str, float]:
        """One optimizer step; the loss is the mean over the whole batch, the gradient norm is before clipping."""
        batch = self.load(step)
        inputs_BT, targets_BT = (
            ids.to(self.runtime.device, non_blocking=True) for ids in (batch.inputs, batch.targets)
        )
        lr = self.learning_rate(step)
        for group in self.optimizer.optimizer.param_groups:
            group["lr"] = lr
        # all that dropout draws from, so that step k drops the same units after a resume
        torch.manual_seed(stream_seed("dropout", self.seed, step))
        loss = torch.zeros((), device=self.runtime.device)
        for inputs, targets in zip(
            inputs_BT.split(self.micro_batch_size), targets_BT.split(self.micro_batch_size), strict=True
        ):
            with self.runtime.autocast():
                micro_loss = self.model.nll_sum(inputs, targets) / batch.scored
            micro_loss.backward()
            loss += micro_loss.detach()
        grad_norm = clip_grad_norm_(self.model.parameters(), self.settings.grad_clip or math.inf)
        if not (math.isfinite(loss.item()) and math.isfinite(grad_norm.item())):
            raise UserError(
                f"step {step}: loss {loss.item()}, gradient norm {grad_norm.item()}: training diverged; "
                f"lower optimizer.lr (now {lr:.2e}); the last checkpoint is from before"
            )
        self.optimizer.optimizer.step()
        self.optimizer.optimizer.zero_grad()
        return {"loss": loss.item(), "grad_norm": grad_norm.item(), "lr": lr}

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
        self.checkpoints.save(self.progress.step, best=best)

    def _log(self, **figures: float) -> None:
        self.metrics.write(self.progress.step, self.progress.step * self.settings.batch_tokens, **figures)
