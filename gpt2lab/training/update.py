"""One optimizer step.

    batch -> micro-batches -> summed loss / scored tokens -> gradients, averaged over processes -> clip -> optimizer

The loss is a mean over the whole batch, whatever the number of micro-batches and processes. Where it or the gradient is
no number the weights stay as they are, in all processes together.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from gpt2lab.config import TrainingConfig, UserError
from gpt2lab.distributed import World
from gpt2lab.evaluation.device_batches import TensorBatch
from gpt2lab.model import GPT, Layout
from gpt2lab.runtime import Runtime, stream_seed
from gpt2lab.training.optimizer import Optimizers
from gpt2lab.training.progress import Skips

log = logging.getLogger(__name__)


class LossScale(GradScaler):
    """The factor that keeps float16's gradients from vanishing (Micikevicius et al. 2018, section 3.2); else 1."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime.device.type, enabled=runtime.precision == "fp16")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a saved scale; a run in another format saved none, then it starts anew."""
        if state:
            super().load_state_dict(state)


class SummedLoss(nn.Module):
    """The model as one call from ids to loss, which is what processes synchronise around."""

    def __init__(self, model: GPT, z_loss: float) -> None:
        super().__init__()
        self.model, self.z_loss = model, z_loss

    def forward(self, inputs_BT: Tensor, targets_BT: Tensor, layout: Layout | None) -> tuple[Tensor, Tensor]:
        """What is minimised, and of it the negative log-likelihood, both summed over the targets."""
        return self.model.objective_sum(inputs_BT, targets_BT, layout=layout, z_loss=self.z_loss)


class Update:
    """Takes the steps of a run."""

    def __init__(
        self,
        model: GPT,
        optimizer: Optimizers,
        loss_scale: LossScale,
        settings: TrainingConfig,
        micro_batch_size: int,
        seed: int,
        runtime: Runtime,
        world: World,
    ) -> None:
        self.model, self.optimizer, self.loss_scale = model, optimizer, loss_scale
        self.settings, self.micro_batch_size, self.seed = settings, micro_batch_size, seed
        self.runtime, self.world = runtime, world
        self.loss = world.synchronised(SummedLoss(model, settings.z_loss))
        self.skips = Skips()

    def __call__(self, step: int, batch: TensorBatch, lr_share: float) -> dict[str, float]:
        """Take one step; return its loss (nats a token), gradient norm before clipping, and learning rate.

        Raises:
            UserError: too many steps in a row were skipped, or the memory is not enough.
        """
        self.optimizer.set_lr(lr_share)
        # all that dropout draws from, so that step k drops the same units after a resume
        torch.manual_seed(stream_seed("dropout", self.seed, step, self.world.rank))
        with explaining_out_of_memory(self.micro_batch_size, batch):
            loss = self._gradients(batch)
        for optimizer in self.optimizer.parts.values():
            self.loss_scale.unscale_(optimizer)
        grad_norm = clip_grad_norm_(self.model.parameters(), self.settings.grad_clip or math.inf)
        figures = {"loss": loss.item(), "grad_norm": grad_norm.item(), "lr": self.optimizer.groups[0]["lr"]}
        if math.isfinite(figures["loss"]) and math.isfinite(figures["grad_norm"]):
            self.optimizer.step()
            self.skips.in_a_row = 0
        else:
            self._skip(step, figures)
        self.loss_scale.update()
        self.optimizer.zero_grad()
        return figures

    def _gradients(self, batch: TensorBatch) -> Tensor:
        """Backward through every micro-batch; the mean loss over the global batch."""
        world = self.world
        # documents that are packed whole leave padding, in each process another amount
        scored = int(world.sum(torch.tensor(batch.scored)))
        loss = torch.zeros((), device=self.runtime.device)
        micro_batches = list(batch.split(self.micro_batch_size))
        for number, micro_batch in enumerate(micro_batches, start=1):
            with self._gradients_stay_here() if number < len(micro_batches) else nullcontext():
                with self.runtime.autocast():
                    objective, nll = self.loss(*micro_batch)
                # the mean over the global batch, times the number of processes, by which the gradients are divided
                self.loss_scale.scale(objective * world.size / scored).backward()
            loss += nll.detach() / scored
        return world.sum(loss)

    def _gradients_stay_here(self) -> AbstractContextManager[None]:
        """Forward and backward within it leave the averaging over processes to a later micro-batch."""
        return self.loss.no_sync() if isinstance(self.loss, DistributedDataParallel) else nullcontext()

    def _skip(self, step: int, figures: dict[str, float]) -> None:
        """Count a step whose update would have ruined the weights; give up after too many in a row."""
        self.skips.total += 1
        if math.isfinite(figures["loss"]) and self.loss_scale.get_scale() > 1:
            log.info("step %d: float16 overflowed, the loss scale is halved", step + 1)
            return
        self.skips.in_a_row += 1
        broken = [
            name for name, p in self.model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()
        ]
        evidence = (
            f"step {step + 1}: loss {figures['loss']}, gradient norm {figures['grad_norm']}, learning rate "
            f"{figures['lr']:.2e}, no numbers in the gradients of {len(broken)} parameters"
            f"{f', first {broken[0]}' if broken else ''}"
        )
        if self.skips.in_a_row > self.settings.max_skips:
            raise UserError(
                f"{evidence}; {self.skips.in_a_row} steps in a row (training.max_skips={self.settings.max_skips}): "
                "training diverged; lower optimizer.lr; the checkpoints hold good weights"
            )
        log.warning("%s: skipped (%d in all)", evidence, self.skips.total)


@contextmanager
def explaining_out_of_memory(micro_batch_size: int, batch: TensorBatch) -> Iterator[None]:
    """Turn a full memory into a ``UserError`` with the next smaller micro-batch, which gives the same steps."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        rows, T = batch.inputs_BT.shape
        smaller = next((n for n in range(micro_batch_size - 1, 0, -1) if rows % n == 0), None)
        mend = f"training.micro_batch_size={smaller}, which gives the same steps, or " if smaller else ""
        raise UserError(
            f"out of memory in a forward pass of {micro_batch_size} sequences x {T} tokens: type {mend}"
            "runtime.activation_checkpointing=true"
        ) from error
