"""One optimizer step.

    batch -> micro-batches -> summed loss / scored tokens -> gradients, averaged over processes -> clip -> optimizer

The loss is a mean over the whole batch, whatever the number of micro-batches and processes. Where the loss or the
gradient is non-finite, the weights stay as they are, in all processes together.

On a GPU the host only queues work. Reading the loss would make it wait for the step to end and leave the GPU idle until
the next one is queued, so there the optimizer itself tests a flag on the device, and ``StepResult.read`` is called a
step later.
"""

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpt2lab.config import TrainingConfig, UserError
from gpt2lab.evaluation.device_batches import TensorBatch
from gpt2lab.model import GPT, Layout
from gpt2lab.runtime import Runtime, explaining_out_of_memory, stream_seed
from gpt2lab.training.gradients import GradientNorms, clip_gradients, gradient_norms
from gpt2lab.training.memory import MODEL_ADVICE, smaller_micro_batch
from gpt2lab.training.optimizer import Optimizers
from gpt2lab.training.parallel import ParallelStrategy
from gpt2lab.training.sharding import own_part
from gpt2lab.training.state import TrainState

log = logging.getLogger(__name__)


class SummedLoss(nn.Module):
    """From ids to the summed loss in one call, so that DDP can wrap it."""

    def __init__(self, model: GPT, z_loss: float) -> None:
        super().__init__()
        self.model, self.z_loss = model, z_loss

    def forward(self, inputs_BT: Tensor, targets_BT: Tensor, layout: Layout | None) -> tuple[Tensor, Tensor]:
        """The training objective and the negative log-likelihood in it, both summed over the targets."""
        return self.model.objective_sum(inputs_BT, targets_BT, layout=layout, z_loss=self.z_loss)


@dataclass(frozen=True)
class StepMetrics:
    """The metrics of one step, as numbers."""

    loss: float
    """nats per token, the mean over the global batch"""
    grad_norm: float
    """of the whole gradient, before clipping"""
    lr: float
    """learning rate of the first parameter group"""

    def to_dict(self) -> dict[str, float]:
        """By the names used in ``metrics.jsonl``."""
        return {"loss": self.loss, "grad_norm": self.grad_norm, "lr": self.lr}

    @property
    def is_finite(self) -> bool:
        """Whether the step updated the weights."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


@dataclass(frozen=True)
class StepResult:
    """A step whose metrics may still be under way on the device."""

    step: int
    """from 0"""
    loss: Tensor
    norms: GradientNorms
    lr: float

    def read(self) -> StepMetrics:
        """Wait for the device and return the metrics."""
        return StepMetrics(self.loss.item(), self.norms.total.item(), self.lr)


class Update:
    """Takes the steps of a run.

    Args:
        model: trained in place.
        optimizer: of the model's parameters.
        state: its skipped steps are counted here.
        settings: clipping, z-loss and the number of skips allowed.
        micro_batch_size: sequences of a forward pass.
        seed: of dropout.
        runtime: device and precision.
        parallel: how the processes of the run share the work.
    """

    def __init__(
        self,
        model: GPT,
        optimizer: Optimizers,
        state: TrainState,
        settings: TrainingConfig,
        micro_batch_size: int,
        seed: int,
        runtime: Runtime,
        parallel: ParallelStrategy,
    ) -> None:
        self.model, self.optimizer, self.state = model, optimizer, state
        self.settings, self.micro_batch_size, self.seed = settings, micro_batch_size, seed
        self.runtime, self.parallel, self.world = runtime, parallel, parallel.world
        self.loss_scale = state.loss_scale
        self.loss = parallel.wrap(SummedLoss(model, settings.z_loss))
        self.reads_late = runtime.device.type == "cuda" and optimizer.skips_on_device
        """metrics are read after the next step is queued; else before the optimizer steps"""

    def __call__(
        self, step: int, batch: TensorBatch, lr_share: float, before_micro_batch: Callable[[], None] = lambda: None
    ) -> StepResult:
        """Queue one step; ``account_for`` must be called with its metrics before the state is saved.

        Args:
            step: from 0; what dropout draws is a function of it.
            batch: this process's part of the batch, on the device.
            lr_share: learning rate as a share of the peak.
            before_micro_batch: called before each forward pass; what it raises ends the step without effect.

        Raises:
            UserError: the memory is not enough.
        """
        self.optimizer.zero_grad()  # of a step that was ended within
        self.optimizer.set_lr(lr_share)
        # seeds everything that dropout draws, so that step k drops the same units after a resume
        torch.manual_seed(stream_seed("dropout", self.seed, step, self.world.rank))
        rows, T = batch.inputs_BT.shape
        what = f"a forward pass of {self.micro_batch_size} sequences x {T} tokens"
        with explaining_out_of_memory(what, smaller_micro_batch(self.micro_batch_size, rows)):
            loss = self._backward(batch, before_micro_batch)
        for optimizer in self.optimizer.parts.values():
            self.loss_scale.unscale_(optimizer)
        gradients = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        norms = gradient_norms(gradients, self.parallel.norms)
        own_parts = [own_part(gradient) for gradient in gradients.values()]
        clip_gradients(own_parts, self.settings.grad_clip or math.inf, norms.total)
        result = StepResult(step, loss, norms, self.optimizer.groups[0]["lr"])
        with explaining_out_of_memory("the optimizer's step", MODEL_ADVICE):
            if self.reads_late:
                self.optimizer.step_unless(~(loss.isfinite() & norms.total.isfinite()))
            elif result.read().is_finite:
                self.optimizer.step()
        self.loss_scale.update()
        self.optimizer.zero_grad()
        return result

    def account_for(self, result: StepResult, metrics: StepMetrics) -> None:
        """Count the step if it was skipped.

        Raises:
            UserError: too many steps in a row were skipped.
        """
        if metrics.is_finite:
            self.state.skipped_in_a_row = 0
            return
        self.state.skipped_steps += 1
        if math.isfinite(metrics.loss) and self.loss_scale.get_scale() > 1:
            log.info("step %d: float16 overflowed, the loss scale is halved", result.step + 1)
            return
        self.state.skipped_in_a_row += 1
        nonfinite = result.norms.nonfinite()
        evidence = (
            f"step {result.step + 1}: loss {metrics.loss}, gradient norm {metrics.grad_norm}, learning rate "
            f"{metrics.lr:.2e}, non-finite gradients in {len(nonfinite)} parameters"
            f"{f', first {nonfinite[0]}' if nonfinite else ''}"
        )
        if self.state.skipped_in_a_row > self.settings.max_skips:
            raise UserError(
                f"{evidence}; {self.state.skipped_in_a_row} steps in a row (training.max_skips="
                f"{self.settings.max_skips}): training diverged; try a lower optimizer.lr"
            )
        log.warning("%s: step skipped (%d in total)", evidence, self.state.skipped_steps)

    def _backward(self, batch: TensorBatch, before_micro_batch: Callable[[], None]) -> Tensor:
        """Backward through every micro-batch; return the mean loss over the global batch."""
        world = self.world
        # with whole documents packed into rows, each process has another number of padding targets
        scored = int(world.sum(torch.tensor(batch.scored)))
        loss = torch.zeros((), device=self.runtime.device)
        micro_batches = list(batch.split(self.micro_batch_size))
        for number, micro_batch in enumerate(micro_batches, start=1):
            before_micro_batch()
            with self.parallel.accumulating(self.loss) if number < len(micro_batches) else nullcontext():
                with self.runtime.autocast():
                    objective, nll = self.loss(*micro_batch)
                # the mean over the global batch, times the number of processes, by which their average divides
                self.loss_scale.scale(objective * world.size / scored).backward()
            loss += nll.detach() / scored
        return world.sum(loss)
