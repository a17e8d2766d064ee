"""Optimizer, learning rate, length, batch and loggers of a run."""

import math
from dataclasses import dataclass, field

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.errors import UserError, check, check_name
from gpt2lab.config.sampling import SamplingConfig

OPTIMIZER_NAMES = ("adamw", "muon")
"""the keys of gpt2lab.training.optimizer.OPTIMIZERS"""
SCHEDULE_NAMES = ("cosine", "linear", "wsd", "constant")
"""the keys of gpt2lab.training.schedule.SCHEDULES"""
LOGGER_NAMES = ("wandb", "tensorboard")
"""the keys of gpt2lab.training.loggers.LOGGERS"""

TASK_NAMES = ("lambada_openai", "lambada_standard", "hellaswag", "cbt_cn", "cbt_ne", "blimp")
"""the keys of gpt2lab.evaluation.tasks.tasks.TASKS"""


@dataclass
class OptimizerConfig(CheckedConfig):
    """AdamW (Loshchilov and Hutter 2019) with GPT-3's settings (Brown et al. 2020, appendix B); Muon for matrices."""

    name: str = "adamw"
    """adamw | muon"""
    lr: float | None = None
    """peak learning rate; null: 0.3 / n_embd, which is 3.9e-4 for GPT-2 small"""
    beta1: float = 0.9
    """decay of the gradient's running mean"""
    beta2: float = 0.95
    """decay of the squared gradient's running mean"""
    eps: float = 1e-8
    """added to the denominator"""
    momentum: float = 0.95
    """decay of the running gradient (muon only; Jordan et al. 2024)"""
    weight_decay: float = 0.1
    """decoupled decay of the matrices (biases, gains and other vectors have none)"""

    def __post_init__(self) -> None:
        check_name(self.name, OPTIMIZER_NAMES, "optimizer.name")
        check(
            self.lr is None or 0 < self.lr <= 1000,
            "optimizer.lr",
            self.lr,
            "a number above 0 and up to 1000, or null for 0.3 / n_embd",
        )
        for key in ("beta1", "beta2", "momentum"):
            check(0 <= getattr(self, key) < 1, f"optimizer.{key}", getattr(self, key), f"0 <= {key} < 1")
        check(self.eps > 0, "optimizer.eps", self.eps, "a number above 0")
        check(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        if self.name != "muon" and self.momentum != OptimizerConfig.momentum:
            raise UserError(
                f"optimizer.momentum={self.momentum}: optimizer={self.name} ignores it; expected no value; try "
                f"optimizer=muon optimizer.momentum={self.momentum}"
            )


@dataclass
class ScheduleConfig(CheckedConfig):
    """The learning rate as a function of the step."""

    name: str = "cosine"
    """cosine | linear | wsd | constant"""
    warmup_steps: int | None = None
    """steps of linear warm-up; null: warmup_share of the run"""
    warmup_share: float = 0.05
    """linear warm-up as a share of the run, where warmup_steps is null"""
    min_lr_ratio: float = 0.0
    """final learning rate as a share of the peak (not with constant)"""
    decay_share: float = 0.2
    """share of the run, after warm-up, in which the rate falls (wsd only)"""

    def __post_init__(self) -> None:
        check_name(self.name, SCHEDULE_NAMES, "schedule.name")
        check(
            self.warmup_steps is None or self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "0 or more"
        )
        check(0 <= self.warmup_share < 1, "schedule.warmup_share", self.warmup_share, "a share, 0 <= warmup_share < 1")
        check(0 <= self.min_lr_ratio <= 1, "schedule.min_lr_ratio", self.min_lr_ratio, "0 <= min_lr_ratio <= 1")
        check(0 < self.decay_share <= 1, "schedule.decay_share", self.decay_share, "a share, above 0 to 1")
        if self.name != "wsd" and self.decay_share != ScheduleConfig.decay_share:
            raise UserError(
                f"schedule.decay_share={self.decay_share}: schedule={self.name} ignores it; expected no value; try "
                f"schedule=wsd schedule.decay_share={self.decay_share}"
            )
        if self.name == "constant" and self.min_lr_ratio != ScheduleConfig.min_lr_ratio:
            raise UserError(
                f"schedule.min_lr_ratio={self.min_lr_ratio}: schedule=constant ignores it; expected no value; try "
                f"schedule=cosine, or schedule.min_lr_ratio={ScheduleConfig.min_lr_ratio} where a recipe sets it"
            )

    def warmup_of(self, total_steps: int) -> int:
        """Steps of warm-up in a run of ``total_steps``; a ``UserError`` if nothing would be left of the run."""
        if self.warmup_steps is None:
            steps = round(self.warmup_share * total_steps)
            expected = f"a share that leaves at least one of the run's {total_steps} steps (this is {steps} of them)"
            check(steps < total_steps, "schedule.warmup_share", self.warmup_share, expected)
            return steps
        expected = f"fewer than the run's {total_steps} steps, or null"
        check(self.warmup_steps < total_steps, "schedule.warmup_steps", self.warmup_steps, expected)
        return self.warmup_steps


LENGTHS = ("max_steps", "max_tokens", "max_epochs", "tokens_per_parameter")
"""keys of which one says how long a run is"""


@dataclass
class TrainingConfig(CheckedConfig):
    """Length of the run, size of the batch, and what happens every so many steps."""

    max_steps: int | None = None
    """optimizer steps (give exactly one of max_steps, max_tokens, max_epochs, tokens_per_parameter)"""
    max_tokens: int | None = None
    """trained tokens; rounded up to a whole step"""
    max_epochs: float | None = None
    """passes over the training split; rounded up to a whole step"""
    tokens_per_parameter: float | None = None
    """trained tokens for each parameter of the model, embeddings included; rounded up to a whole step"""
    batch_tokens: int = 8_192
    """tokens per optimizer step, over all processes and micro-batches"""
    micro_batch_size: int | None = None
    """sequences per forward pass; null: as many as fit into 8,192 tokens.
    Gradient accumulation follows from batch_tokens"""
    sequence_length: int | None = None
    """tokens per training sequence; null: model.block_size"""
    grad_clip: float = 1.0
    """largest L2 norm of the whole gradient; 0: no clipping"""
    init_seed: int | None = None
    """seed of the initial weights; null: seed"""
    data_seed: int | None = None
    """seed of the data order; null: seed"""
    max_skips: int = 5
    """steps in a row that may be skipped because the loss or gradient is non-finite; one more stops the run"""
    z_loss: float = 0.0
    """weight of the squared log of the softmax's denominator (PaLM: 1e-4)"""
    log_every: int = 10
    """steps between lines of metrics.jsonl"""
    eval_every: int = 100
    """steps between validations; 0: only at the end"""
    eval_tokens: int = 65_536
    """validation tokens scored each time, always the same windows, spread over the split"""
    eval_tasks: list[str] = field(default_factory=list)
    """zero-shot tasks evaluated after validations, logged as tasks/NAME/...: lambada_openai, hellaswag, ..."""
    eval_texts: list[str] = field(default_factory=list)
    """UTF-8 files whose perplexity is taken after validations, logged as val/FILE/..., protocol stream"""
    eval_tasks_every: int = 1
    """validations from one evaluation of eval_tasks and eval_texts to the next; the last one is always among them"""
    eval_tasks_folder: str | None = None
    """folder with NAME.jsonl for tasks that are not to come from the Hub"""
    eval_tasks_limit: int | None = None
    """take the first questions of each task only; null: all"""
    checkpoint_every: int = 100
    """steps between checkpoints, besides those with the best validation loss so far; 0: only these and the last"""
    keep_checkpoints: int = 2
    """number of newest checkpoints to keep, in addition to the best one"""

    def __post_init__(self) -> None:
        lengths = {key: getattr(self, key) for key in LENGTHS}
        given = [key for key, value in lengths.items() if value is not None]
        if len(given) != 1:
            found = " and ".join(f"training.{key}={lengths[key]}" for key in given) or "none"
            fix = f"; add training.{given[0]}=null" if given else "; add training.max_steps=1000"
            raise UserError(f"training length: expected exactly one of {', '.join(LENGTHS)}, found {found}{fix}")
        check(0 < lengths[given[0]] < math.inf, f"training.{given[0]}", lengths[given[0]], "a finite number above 0")
        for name in self.eval_tasks:
            check_name(name, TASK_NAMES, "training.eval_tasks")
        for key in ("batch_tokens", "eval_tokens", "eval_tasks_every", "log_every", "keep_checkpoints"):
            check(getattr(self, key) >= 1, f"training.{key}", getattr(self, key), "a whole number of at least 1")
        for key in ("eval_every", "checkpoint_every", "grad_clip", "max_skips"):
            check(getattr(self, key) >= 0, f"training.{key}", getattr(self, key), "0 or more")
        check(0 <= self.z_loss <= 1, "training.z_loss", self.z_loss, "0 <= z_loss <= 1")
        for key in ("init_seed", "data_seed"):
            seed = getattr(self, key)
            check(seed is None or 0 <= seed < 2**32, f"training.{key}", seed, f"null or 0 <= {key} < 2**32")
        for key in ("micro_batch_size", "sequence_length", "eval_tasks_limit"):
            value = getattr(self, key)
            check(value is None or value >= 1, f"training.{key}", value, "a whole number of at least 1, or null")


@dataclass
class SamplesConfig(CheckedConfig):
    """Text drawn while the model trains."""

    every: int = 0
    """sample after every N-th validation; 0: never"""
    prompts: list[str] = field(default_factory=lambda: [""])
    """texts to continue; an empty one starts a document"""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(max_new_tokens=32))
    """how, ``num_samples`` a prompt"""

    def __post_init__(self) -> None:
        check(self.every >= 0, "samples.every", self.every, "0 or more")
        check(bool(self.prompts), "samples.prompts", self.prompts, "at least one text, [''] to start a document")


@dataclass
class LoggerConfig(CheckedConfig):
    """Dashboards that receive the metrics of ``metrics.jsonl`` as well."""

    names: list[str] = field(default_factory=list)
    """wandb | tensorboard, none, one or both"""
    project: str = "gpt2lab"
    """W&B project"""
    run_name: str | None = None
    """W&B run name; null: the name of the run directory, which in a sweep says what differs"""
    group: str | None = None
    """W&B group; in a sweep the default is the sweep's name"""
    tags: list[str] = field(default_factory=list)
    """W&B tags; a sweep adds one for each of its axes"""

    def __post_init__(self) -> None:
        for name in self.names:
            check_name(name, LOGGER_NAMES, "logger.names")
