"""What a run prints: a header before the first step, warnings about its size, progress, and a table at the end."""

import logging
import math
import time
from collections.abc import Sequence

from tqdm import tqdm

from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.training.estimates import Estimate
from gpt2lab.training.plan import RunPlan
from gpt2lab.training.references import UNIGRAM, Reference

log = logging.getLogger(__name__)

MANY_EPOCHS = 4
"""passes over the corpus up to which repeated text is about as good as new (Muennighoff et al. 2023, section 6)"""

LONG_STEP_SECONDS = 300
LINE_SECONDS = 60
"""between two lines of ``Progress``"""


def header(plan: RunPlan, estimate: Estimate | None = None) -> str:
    """The lines printed before the first step; each fits into 80 columns unless a name or path is long."""
    model = plan.model
    variants = f"positions {model.positions.name}, norm {model.norm.name}, mlp {model.mlp.name}"
    product = (
        f"= {plan.micro_batch_size} sequences x {plan.sequence_length} tokens x {plan.micro_batches} micro-batches"
        + (f" x {plan.processes} processes" if plan.processes > 1 else "")
    )
    device = plan.device_name if plan.processes == 1 else f"{plan.processes} x {plan.device_name}"
    lines = [
        ("model", f"{model.n_layer} layers x {model.n_embd}, {model.n_head} heads, context {model.block_size:,}"),
        ("", variants),
        ("parameters", f"{plan.parameters:,}"),
        ("data", f"{plan.data_name}, {plan.train_tokens:,} tokens, tokenizer {plan.tokenizer}"),
        ("run", f"{plan.total_steps:,} steps = {plan.tokens:,} tokens = {plan.epochs:.3g} epochs"),
        ("batch", f"{plan.batch_tokens:,} tokens"),
        ("", product),
        (
            "learning rate",
            f"{plan.peak_lr:.2g}, {plan.optimizer}, {plan.schedule}, {plan.warmup_steps:,} warm-up steps",
        ),
        ("device", f"{device}, {plan.precision}"),
    ]
    if estimate:
        memory = readable_bytes(estimate.memory_bytes)
        lines.append(("estimate", f"about {readable_time(estimate.seconds)}, {memory} of memory"))
    lines.append(("run directory", str(plan.run_dir)))
    return "\n".join(f"{name:<14}  {text}" for name, text in lines)


def warn_about_size(plan: RunPlan, estimate: Estimate) -> None:
    """Log a warning, with numbers, where the corpus is far too small for the run, or a step very long."""
    step_seconds = estimate.seconds / max(1, plan.total_steps)
    if step_seconds > LONG_STEP_SECONDS:
        log.warning(
            "a step of %s tokens takes about %s on this device: for a trial type training.batch_tokens=%d",
            f"{plan.batch_tokens:,}", readable_time(step_seconds), plan.sequence_length * plan.processes,
        )  # fmt: skip
    if plan.epochs > MANY_EPOCHS:
        tokens = plan.epoch_sequences * plan.sequence_length * MANY_EPOCHS
        log.warning(
            "%s tokens of training are %.3g passes over the %s tokens of data=%s: beyond %d passes repeated text "
            "teaches little and is memorized; expected at most training.max_tokens=%d here, or a larger corpus "
            "(data=fineweb_edu)",
            f"{plan.tokens:,}", plan.epochs, f"{plan.train_tokens:,}", plan.data_name, MANY_EPOCHS, tokens,
        )  # fmt: skip


class Progress:
    """A bar of the steps on a terminal; where there is none, as in a batch job, a line a minute.

    Args:
        total_steps: of the run.
        step: steps taken so far.
        is_main: only the main process shows anything.
    """

    def __init__(self, total_steps: int, step: int, *, is_main: bool) -> None:
        self.total_steps, self.first_step, self.step = total_steps, step, step
        self.bar = tqdm(
            total=total_steps, initial=step, unit="step", dynamic_ncols=True, disable=None if is_main else True,
            bar_format="{n_fmt}/{total_fmt} |{bar}| {desc}  {elapsed} < {remaining}", mininterval=0.5,
        )  # fmt: skip
        self.writes_lines = is_main and self.bar.disable
        self.started = self.last_line = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def show_step(self, loss: float | None, tokens_per_second: float) -> None:
        """Advance by a step; ``loss`` is that of the last step whose metrics were read."""
        self.step += 1
        shown = "" if loss is None else f"loss {loss:.3f}  "
        shown += f"{tokens_per_second:,.0f} tok/s"
        self.bar.set_description_str(shown, refresh=False)
        self.bar.update()
        now = time.monotonic()
        if self.writes_lines and now - self.last_line >= LINE_SECONDS:
            self.last_line = now
            seconds_per_step = (now - self.started) / (self.step - self.first_step)
            left = readable_time(seconds_per_step * (self.total_steps - self.step))
            log.info("step %6d of %d  %s  about %s left", self.step, self.total_steps, shown, left)


def closing_table(validation: Perplexity, references: Sequence[Reference], plan: RunPlan) -> str:
    """The model's validation scores beside those of the reference models, and where the files are."""
    rows = [("this model", validation), *((reference.name, reference.score) for reference in references)]
    lines = [f"{'validation':<14}  {'loss':>8}  {'perplexity':>11}  {'bits per byte':>13}"]
    lines += [
        f"{name:<14}  {score.loss:>8.4f}  {score.token_perplexity:>11,.2f}  {score.bits_per_byte:>13.4f}"
        for name, score in rows
    ]
    vocabulary = plan.model.vocab_size
    lines.append(f"{'uniform':<14}  {math.log(vocabulary):>8.4f}  {vocabulary:>11,.2f}")
    if any(reference.name == UNIGRAM and validation.loss > reference.score.loss for reference in references):
        lines.append("above unigram   the model has learned less than how frequent each token is; train it longer")
    return "\n".join([*lines, f"run directory   {plan.run_dir}"])


def readable_time(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.4 h`` or ``2.1 days``."""
    for unit, length, limit in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            value = seconds / length
            return f"{value:.0f} {unit}" if value >= 10 or unit == "s" else f"{value:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"


def readable_bytes(count: float) -> str:
    """``512 MB``, ``3.4 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
