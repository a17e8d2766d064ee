"""Each command's whole configuration: groups put together, and checked against each other."""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.data import DataConfig, PrepareConfig, StateOfTheUnionConfig
from gpt2lab.config.errors import UserError, check
from gpt2lab.config.evaluation import EvalConfig
from gpt2lab.config.model import ModelConfig
from gpt2lab.config.runtime import RuntimeConfig
from gpt2lab.config.sampling import SamplingConfig
from gpt2lab.config.tokenizer import TokenizerConfig
from gpt2lab.config.training import LoggerConfig, OptimizerConfig, SamplesConfig, ScheduleConfig, TrainingConfig


@dataclass
class TrainJob(CheckedConfig):
    """Trains a model, or with -m the models of a sweep."""

    model: ModelConfig = field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=StateOfTheUnionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(max_steps=1000))
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    seed: int = 1337
    """seed of the initial weights, the data order and dropout; each has its own random stream"""
    run_dir: str | None = None
    """folder of this run; null: runs/<day>/<time>-<id>"""
    resume: str | None = None
    """null | auto (newest complete checkpoint of run_dir, or of the run that started or saved last; without one from
    step 0) | a run or checkpoint folder"""
    init_from: str | None = None
    """run or checkpoint folder to take the weights, and nothing else, from; with resume=auto only where nothing is
    there to resume"""
    ignore_data_fingerprint: bool = False
    """resume although the data is not what the checkpoint was trained on"""

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**32, "seed", self.seed, "a whole number, 0 <= seed < 2**32")
        if self.resume not in (None, "auto") and self.init_from:
            raise UserError(
                f"resume={self.resume} and init_from={self.init_from}: give one; init_from takes weights only"
            )
        if self.model.vocab_size != self.tokenizer.vocab_size:
            raise UserError(
                f"model.vocab_size={self.model.vocab_size}: tokenizer={self.tokenizer.name} has "
                f"{self.tokenizer.vocab_size} ids; leave model.vocab_size out"
            )
        if self.sequence_length > self.model.block_size:
            raise UserError(
                f"training.sequence_length={self.sequence_length} is longer than model.block_size="
                f"{self.model.block_size}: raise model.block_size or shorten the sequence"
            )
        decay = self.optimizer.weight_decay
        check(
            decay * self.peak_lr < 1,
            "optimizer.weight_decay",
            decay,
            f"less than 1 / learning rate = {1 / self.peak_lr:g}, as a step takes rate x decay off each weight",
        )
        if self.training.max_steps is not None:
            self.schedule.warmup_of(self.training.max_steps)
        sequences = self.training.micro_batch_size or 1  # where it is not given, it follows from the batch
        micro_batch_tokens = sequences * self.sequence_length
        if self.training.batch_tokens % micro_batch_tokens:
            lower = self.training.batch_tokens // micro_batch_tokens * micro_batch_tokens
            fitting = [str(n) for n in (lower, lower + micro_batch_tokens) if n]
            raise UserError(
                f"training.batch_tokens={self.training.batch_tokens} is not divisible by micro_batch_size x "
                f"sequence_length = {sequences} x {self.sequence_length} = {micro_batch_tokens}: "
                f"training.batch_tokens={' or '.join(fitting)} would be"
            )
        self.micro_batch_of(self.runtime.num_processes)

    @property
    def sequence_length(self) -> int:
        """Tokens per training sequence."""
        return self.training.sequence_length or self.model.block_size

    @property
    def data_seed(self) -> int:
        """Seed of the data order."""
        return self.seed if self.training.data_seed is None else self.training.data_seed

    @property
    def init_seed(self) -> int:
        """Seed of the initial weights."""
        return self.seed if self.training.init_seed is None else self.training.init_seed

    @property
    def batch_size(self) -> int:
        """Sequences per optimizer step."""
        return self.training.batch_tokens // self.sequence_length

    def micro_batch_of(self, world_size: int) -> int:
        """Sequences per forward pass of one of ``world_size`` processes: as given, else as many as 8,192 tokens hold.

        Raises:
            UserError: the batch cannot be shared evenly.
        """
        given = self.training.micro_batch_size
        unit = world_size * (given or 1)
        if self.batch_size % unit:
            lower = self.batch_size // unit * unit
            fitting = [str(n * self.sequence_length) for n in (lower, lower + unit) if n]
            raise UserError(
                f"training.batch_tokens={self.training.batch_tokens} is {self.batch_size} sequences, which "
                f"{world_size} processes cannot share in micro-batches of {given or 1}: "
                f"training.batch_tokens={' or '.join(fitting)} would do"
            )
        share = self.batch_size // world_size
        return given or next(n for n in range(max(1, 8_192 // self.sequence_length), 0, -1) if share % n == 0)

    @property
    def peak_lr(self) -> float:
        """The learning rate at the end of warm-up."""
        return self.optimizer.lr or 0.3 / self.model.n_embd

    def with_peak_lr(self) -> "TrainJob":
        """The same job, whose ``optimizer.lr`` is the number that null came to, as in config.yaml."""
        return replace(self, optimizer=replace(self.optimizer, lr=self.peak_lr))

    def total_steps(self, *, epoch_tokens: int, parameters: int) -> int:
        """Optimizer steps of the whole run.

        Args:
            epoch_tokens: of one pass over the training split.
            parameters: of the model.
        """
        training = self.training
        if training.max_steps is not None:
            return training.max_steps
        tokens = (
            Fraction(training.max_tokens or 0)
            or epoch_tokens * as_written(training.max_epochs or 0)
            or parameters * as_written(training.tokens_per_parameter or 0)
        )
        return math.ceil(tokens / training.batch_tokens)


def as_written(number: float) -> Fraction:
    """The decimal number that was typed: 0.07 is 7/100, while the float is a little more."""
    return Fraction(str(number))


@dataclass
class PrepareJob(CheckedConfig):
    """Tokenizes a corpus into the shards that training reads."""

    data: DataConfig = field(default_factory=StateOfTheUnionConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    verify: bool = False
    """check every hash of the prepared dataset instead of preparing it"""
    inspect: bool = False
    """show what is in the prepared dataset instead of preparing it"""


@dataclass
class EvalJob(CheckedConfig):
    """Measures a model: perplexity, tasks, sample quality and use of context."""

    checkpoint: str | None = None
    """a run, a checkpoint, a Hugging Face directory, a name there (gpt2, ORG/NAME), or a sweep; null: the newest run"""
    baseline: str | None = None
    """a second model, scored on the same documents: the paired difference of the two is shown"""
    out: str | None = None
    """file of the results; null: eval.json in the run directory, or here if it is not a run"""
    eval: EvalConfig = field(default_factory=EvalConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        if self.baseline is not None and "perplexity" not in self.eval.parts:
            raise UserError(
                f"baseline={self.baseline} and eval.parts=[{','.join(self.eval.parts)}]: models are compared by "
                "perplexity; expected it among the parts; type eval.parts=[perplexity]"
            )
        self.eval.require_all_read()


@dataclass
class SampleJob(CheckedConfig):
    """Continues a prompt with text drawn from a model."""

    checkpoint: str | None = None
    """a run, a checkpoint, a Hugging Face directory, or a name there (gpt2, ORG/NAME); null: the newest run"""
    prompt: str = ""
    """text to continue; empty: start a new document; -: read standard input"""
    prompt_file: str | None = None
    """file with the text to continue, instead of ``prompt``"""
    prompts_file: str | None = None
    """file with several prompts, instead of ``prompt``: one per line, or *.jsonl with a field prompt; -: stdin"""
    stop: list[str] = field(default_factory=list)
    """strings that end a sample; they are no part of it; \\n in one is a line break, \\r a carriage return, \\t a tab,
    \\\\ a backslash: 'stop=["\\n"]'"""
    format: str = "text"
    """text | jsonl (an object per line: sample, prompt, text, tokens, finish_reason)"""
    stream: bool = True
    """print the text as it is drawn, one sample after another; false: draw all together, which is faster, and which
    several processes can share"""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        check(isinstance(self.stop, list), "stop", self.stop, f"a list of strings; try 'stop=[\"{self.stop}\"]'")
        check("" not in self.stop, "stop", self.stop, "strings that are not empty")
        given = [
            f"{key}={value}"
            for key in ("prompt", "prompt_file", "prompts_file")
            if (value := getattr(self, key)) not in ("", None)
        ]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)}: give one of them")


@dataclass
class ExportJob(CheckedConfig):
    """Writes a model for transformers, onnxruntime or llama.cpp."""

    checkpoint: str | None = None
    """a run, a checkpoint, a Hugging Face directory, or a name there (gpt2, ORG/NAME); null: the newest run"""
    out: str | None = None
    """folder to create; it must not exist or must be empty"""
    format: str = "transformers"
    """transformers (safetensors) | onnx (model.onnx, for onnxruntime) | gguf (model.gguf, for llama.cpp)"""
