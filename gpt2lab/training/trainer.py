"""The training loop.

    batch(step) -> update -> log -> validate -> sample -> save

All that changes is in the model, the optimizer and ``TrainState``; data, learning rate and dropout are functions of
(seed, step). So a run that was killed and resumed takes the steps of one that was not, and any number of processes sees
the same batches.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gpt2lab.checkpoint import CheckpointManager
from gpt2lab.config import StoppedError, TrainingConfig, UserError, one_line
from gpt2lab.data import TrainBatches
from gpt2lab.evaluation.device_batches import TensorBatch
from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.model import GPT
from gpt2lab.runs.records import COMPLETED, STOPPED
from gpt2lab.runtime import NotEnoughMemoryError, Runtime
from gpt2lab.training.console import Progress
from gpt2lab.training.metrics import MetricsLog, peak_memory_bytes
from gpt2lab.training.parallel import ParallelStrategy
from gpt2lab.training.plan import RunPlan
from gpt2lab.training.profiler import Profiler
from gpt2lab.training.references import Reference
from gpt2lab.training.samples import Sampler
from gpt2lab.training.signals import StopRequested, StopSignals, stopped_error
from gpt2lab.training.state import TrainState
from gpt2lab.training.summary import summarize, write_summary
from gpt2lab.training.task_evaluation import TaskEvaluator
from gpt2lab.training.throughput import Throughput
from gpt2lab.training.update import StepMetrics, StepResult, Update
from gpt2lab.training.validator import Validator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """A completed run."""

    run_dir: Path
    validation: Perplexity
    """of the final weights"""
    references: Sequence[Reference]
    """scores of models that only count tokens"""
    summary: dict[str, Any]
    """the content of ``summary.json``"""


def no_plots(run_dir: Path) -> Sequence[Path]:
    """Draw nothing."""
    return []


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
    evaluate_tasks: TaskEvaluator
    checkpoints: CheckpointManager
    metrics: MetricsLog
    state: TrainState
    plan: RunPlan
    throughput: Throughput
    profiler: Profiler
    runtime: Runtime
    settings: TrainingConfig
    total_steps: int
    parallel: ParallelStrategy
    references: Callable[[Perplexity], Sequence[Reference]] = lambda _: ()
    """counts tokens for the reference losses, at the end"""
    plot: Callable[[Path], Sequence[Path]] = no_plots
    """draws the plots of a completed run directory, for the loggers"""
    saved_step: int = field(default=-1, init=False)
    last: StepMetrics | None = field(default=None, init=False)
    """of the last step whose metrics were read"""
    pending: StepResult | None = field(default=None, init=False)
    """of the step whose metrics are still to be read"""

    def __post_init__(self) -> None:
        self.world = self.parallel.world
        self.signals = StopSignals(self.world)

    def run(self) -> TrainingResult:
        """Train from ``state.step`` to ``total_steps``; open and close the run's metrics, loggers and summary.

        Raises:
            StoppedError: a process received SIGTERM, SIGINT, SIGUSR1 or SIGHUP; the state is saved.
            UserError: the loss or gradient was non-finite too often in a row; the weights are those of the last good
                step.
        """
        try:
            self._open()
            validation = self._train()
            references = self.references(validation) if self.world.is_main else ()
        except BaseException as error:
            reason = one_line(error) if isinstance(error, UserError) else type(error).__name__
            status = STOPPED if isinstance(error, StoppedError) else f"failed: {reason}"
            self._close(self._summarize(status))
            raise
        summary = self._summarize(COMPLETED, validation=validation, references=references)
        self._close(summary, plot=self.plot)
        return TrainingResult(self.plan.run_dir, validation, references, summary)

    def launch_step(self, step: int) -> StepResult:
        """Load the batch of a step and queue the step on the device."""
        started = time.perf_counter()
        batch = self.load(step)
        self.throughput.waiting += time.perf_counter() - started
        batch = batch.to(self.runtime.device)
        return self.update(step, batch, self.lr_share(step), before_micro_batch=self.signals.check_within_step)

    def _train(self) -> Perplexity:
        validation = None
        if self.state.step == self.total_steps and not self._is_validated():
            self.state.validation_pending = True
        progress = Progress(self.total_steps, self.state.step, is_main=self.world.is_main)
        with progress, self.signals.remembered(), self.profiler:
            try:
                while self.state.validation_pending or self.state.step < self.total_steps:
                    if not self.state.validation_pending:
                        self._advance(progress)
                    validation = self._evaluate_and_checkpoint()
                    self.signals.check()
            except StopRequested as request:
                if self.saved_step != self.state.step:
                    self._save(best=False)
                self.checkpoints.wait()
                raise stopped_error(request.args[0], self.state.step, self.plan.run_dir) from None
            self.checkpoints.wait()
        if validation is None:  # a run that was complete already
            with self._evaluated_model() as model:
                validation = self.validator(model)
        self._require_learning(validation)
        return validation

    def _require_learning(self, validation: Perplexity) -> None:
        """Raise ``UserError`` if no step changed the weights, or the last ones made them useless."""
        if 0 < self.state.step == self.state.skipped_steps:
            raise UserError(
                f"all {self.state.step} steps were skipped, because loss or gradients were non-finite: the weights are "
                "those of the start; try a lower optimizer.lr"
            )
        if not math.isfinite(validation.loss):
            raise UserError(
                f"the validation loss after the last step is {validation.loss}, non-finite: training diverged; try a "
                "lower optimizer.lr"
            )

    def _is_validated(self) -> bool:
        """Whether the validation of the present step is recorded; a run may be resumed to end where it was stopped."""
        return self.world.on_main(lambda: self.metrics.is_validated(self.state.step))

    def _advance(self, progress: Progress) -> None:
        """Take a step, and log it if a line is scheduled for it."""
        started = time.perf_counter()
        previous, self.pending = self.pending, self.launch_step(self.state.step)
        self.state.step += 1
        is_logged = self.state.step == 1 or self._is_scheduled(self.settings.log_every)
        if previous is not None:
            self._account_for(previous)
        is_used = self._is_scheduled(self.settings.eval_every) or self._is_scheduled(self.settings.checkpoint_every)
        if is_logged or is_used or not self.update.reads_late:
            self._read_pending()  # waits for the device here, where the time counts as the step's
        seconds = time.perf_counter() - started
        self.state.train_seconds += seconds
        self.state.wall_seconds += seconds
        self.throughput.add(self.settings.batch_tokens, seconds)
        self.profiler.step()
        progress.show_step(self.last.loss if self.last else None, self.throughput.recent_rate())
        if is_logged:
            self._log(
                **self._read_pending().to_dict(),
                **self.state.losses.take(),
                param_norm=self._parameter_norm(),
                **self.throughput.take(),
                train_seconds=round(self.state.train_seconds, 3),
                memory_bytes=peak_memory_bytes(self.runtime.device),
            )

    def _account_for(self, result: StepResult) -> None:
        """Read a step's metrics, which waits for the device, and show them to the counters and monitors."""
        metrics = self.last = result.read()
        self.state.losses.add(metrics.loss)
        if math.isfinite(metrics.loss) and self.state.spikes(metrics.loss):
            log.warning(
                "step %d: the loss jumped to %.3f, gradient norm %.2f",
                result.step + 1, metrics.loss, metrics.grad_norm,
            )  # fmt: skip
        self.update.account_for(result, metrics)

    def _read_pending(self) -> StepMetrics:
        """Account for the last step launched; return its metrics."""
        result, self.pending = self.pending, None
        if result is not None:
            self._account_for(result)
        assert self.last is not None
        return self.last

    def _evaluate_and_checkpoint(self) -> Perplexity | None:
        """Validate, sample and save, each if it is scheduled after this step."""
        validation, best = None, False
        if self.state.validation_pending or self._is_scheduled(self.settings.eval_every):
            self.state.validation_pending = True
            with self._evaluated_model() as model:
                validation = self._validate(model)
                self._evaluate_tasks(model)
                self.state.validation_pending = False
                self._draw_samples(model)
            best = validation.loss < self.state.best_val_loss
            if best:
                self.state.best_val_loss, self.state.best_step = validation.loss, self.state.step
        if best or self._is_scheduled(self.settings.checkpoint_every):
            self._save(best=best)
        return validation

    @contextmanager
    def _evaluated_model(self) -> Iterator[GPT]:
        """The whole model without compiled code: batches and texts of other shapes would make it compile again."""
        with self.parallel.whole_model(self.model) as model, torch.compiler.set_stance("force_eager"):
            yield model

    def _validate(self, model: GPT) -> Perplexity:
        started = time.perf_counter()
        try:
            result = self.validator(model, before_batch=self.signals.check)
        except NotEnoughMemoryError:
            if self.world.size == 1:  # others may have had enough, and all save together
                self._save(best=False)
                self.checkpoints.wait()
                log.info("step %d is saved", self.state.step)
            raise
        self.state.wall_seconds += time.perf_counter() - started
        self._log(val_loss=result.loss, val_perplexity=result.token_perplexity, val_bits_per_byte=result.bits_per_byte)
        log.info(
            "step %6d  val loss %.4f  perplexity %.2f  bits per byte %.4f",
            self.state.step, result.loss, result.token_perplexity, result.bits_per_byte,
        )  # fmt: skip
        return result

    def _evaluate_tasks(self, model: GPT) -> None:
        """Score tasks and further texts, if they are scheduled after this validation; one process does it for all."""
        every = self.evaluate_tasks.every * self.settings.eval_every
        if self.evaluate_tasks.is_off or not self._is_scheduled(every) or not self.world.is_main:
            return
        started = time.perf_counter()
        metrics = self.evaluate_tasks(model)
        self.state.wall_seconds += time.perf_counter() - started
        self._log(**metrics)

    def _draw_samples(self, model: GPT) -> None:
        """Generate text, if it is scheduled after this validation; one process does it for all."""
        every = self.sampler.config.every * self.settings.eval_every
        if not self.sampler.config.every or not self._is_scheduled(every) or not self.world.is_main:
            return
        self.metrics.write_samples(self.state.step, self.sampler(model))

    def _save(self, *, best: bool) -> None:
        if self.pending is not None:
            self._read_pending()
        self.checkpoints.save(self.state.step, best=best)
        self.saved_step = self.state.step

    def _is_scheduled(self, every: int) -> bool:
        """Whether something done every ``every`` steps (0: at the end only) is done after this step."""
        return self.state.step == self.total_steps or (every > 0 and self.state.step % every == 0)

    def _parameter_norm(self) -> float:
        """L2 norm of all parameters as one vector."""
        norms = self.parallel.norms([parameter.detach() for parameter in self.model.parameters()])
        return torch.linalg.vector_norm(norms).item()

    def _log(self, **metrics: float) -> None:
        if self.world.is_main:
            self.metrics.write(self.state.step, self.state.step * self.settings.batch_tokens, **metrics)

    def _open(self) -> None:
        if self.world.is_main:
            self.plan.run_dir.mkdir(parents=True, exist_ok=True)
            write_summary(self.plan, self._summarize("running"))
            self.metrics.start(self.state.step, self.state.run_id)

    def _close(self, summary: dict[str, Any], plot: Callable[[Path], Sequence[Path]] = no_plots) -> None:
        if not self.world.is_main:
            return
        write_summary(self.plan, summary)
        plots: Sequence[Path] = []
        try:
            plots = plot(self.plan.run_dir)
        except Exception as error:  # whatever it is, the run is complete
            log.warning("the run is complete, but its plot failed: %s: %s", type(error).__name__, one_line(error))
        self.metrics.finish(summary, plots)

    def _summarize(self, status: str, **results: Any) -> dict[str, Any]:
        # a run that is resumed at its last step takes no step of its own
        loss = self.last.loss if self.last else self.metrics.loss_of(self.state.step)
        return summarize(self.plan, self.state, status, loss=loss, **results)
