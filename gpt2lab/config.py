"""Every setting of gpt2lab: one dataclass a group, one line of meaning a field, checked when it is built.

The YAML files under ``configs/`` fill these classes (``compose.py`` does it through Hydra), and the same classes
are the Python API: ``ModelConfig(n_layer=2, n_head=2, n_embd=32)``. A value that cannot work raises ``UserError``
at construction, before any file is written. This module imports the standard library only.
"""

import dataclasses
import difflib
import math
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

Choice = TypeVar("Choice")
Config = TypeVar("Config")


class UserError(ValueError):
    """A mistake the user can mend: the message is one line with the value, what was expected and what to type."""


def choose(registry: typing.Mapping[str, Choice], name: str, key: str) -> Choice:
    """Look ``name`` up in a registry of variants; ``key`` is the setting to blame when it is not there."""
    if name not in registry:
        raise UserError(f"{key}={name}: expected one of {', '.join(registry)}{did_you_mean(name, registry)}")
    return registry[name]


def did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    """The end of an error line: the nearest known spelling, or nothing."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def check(condition: bool, key: str, value: object, expected: str) -> None:
    """Raise ``UserError`` naming ``key``, ``value`` and what was expected unless ``condition`` holds."""
    if not condition:
        raise UserError(f"{key}={value}: expected {expected}")


def check_divides(key: str, divisor: int, dividend_key: str, dividend: int) -> None:
    """Raise ``UserError`` naming the nearest divisors unless ``divisor`` divides ``dividend``."""
    if dividend % divisor:
        fitting = [n for n in range(1, dividend + 1) if dividend % n == 0]
        nearest = sorted(sorted(fitting, key=lambda n: abs(n - divisor))[:3])
        raise UserError(
            f"{dividend_key}={dividend} is not divisible by {key}={divisor}: "
            f"{key}={' or '.join(map(str, nearest))} would divide it"
        )


# ---------------------------------------------------------------------------------------------------------------- model


@dataclass
class PositionsConfig:
    """How the model knows the order of the tokens."""

    name: str = "learned"
    """a key of gpt2lab.model.positions.POSITIONS"""
    rope_theta: float = 10_000.0
    """base of the rotation frequencies (rope only; Su et al. 2021, section 3.2.2)"""
    rope_fraction: float = 1.0
    """share of a head's channels that is rotated, the first ones (rope only; GPT-NeoX: 0.25)"""

    def __post_init__(self) -> None:
        check(0 < self.rope_theta < math.inf, "model.positions.rope_theta", self.rope_theta, "a number above 0")
        check(0 < self.rope_fraction <= 1, "model.positions.rope_fraction", self.rope_fraction, "a share, above 0 to 1")


@dataclass
class NormConfig:
    """The normalisation before attention, before the MLP and before the head."""

    name: str = "layernorm"
    """a key of gpt2lab.model.norms.NORMS"""
    eps: float = 1e-5
    """added to the variance (layernorm) or mean square (rmsnorm)"""

    def __post_init__(self) -> None:
        check(0 < self.eps < math.inf, "model.norm.eps", self.eps, "a number above 0, GPT-2 has 1e-5")


@dataclass
class MLPConfig:
    """The position-wise network of a block."""

    name: str = "gelu"
    """a key of gpt2lab.model.mlp.MLPS"""
    hidden_dim: int | None = None
    """width between its layers; null: 4 n_embd, for swiglu 8/3 n_embd rounded up to a multiple of 8"""

    def __post_init__(self) -> None:
        expected = "a whole number of at least 1, or null"
        check(self.hidden_dim is None or self.hidden_dim >= 1, "model.mlp.hidden_dim", self.hidden_dim, expected)


@dataclass
class ModelConfig:
    """The shape of the network. The defaults are GPT-2 small, 124,439,808 parameters."""

    n_layer: int = 12
    """blocks"""
    n_head: int = 12
    """attention heads a block"""
    n_kv_head: int | None = None
    """heads of the keys and values, each shared by n_head / n_kv_head queries; null: n_head (Ainslie et al. 2023)"""
    n_embd: int = 768
    """width of the residual stream"""
    block_size: int = 1024
    """longest sequence, in tokens"""
    vocab_size: int = 50_257
    """token ids; must be the tokenizer's"""
    vocab_multiple_of: int = 1
    """the embedding gets rows up to a multiple of this (128 suits a GPU); no id and no probability is ever theirs"""
    bias: bool = True
    """biases in the linear layers and in LayerNorm"""
    tie_head: bool = True
    """the output head shares the token embedding's matrix"""
    qk_norm: bool = False
    """normalise each head's queries and keys, before positions are put in (Dehghani et al. 2023, section 2)"""
    dropout: float = 0.0
    """probability, on the embedding, the attention weights and both residual branches"""
    positions: PositionsConfig = field(default_factory=PositionsConfig)
    norm: NormConfig = field(default_factory=NormConfig)
    mlp: MLPConfig = field(default_factory=MLPConfig)

    def __post_init__(self) -> None:
        for key in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size", "vocab_multiple_of"):
            check(getattr(self, key) >= 1, f"model.{key}", getattr(self, key), "a whole number of at least 1")
        check(0 <= self.dropout < 1, "model.dropout", self.dropout, "a probability, 0 <= dropout < 1")
        check_divides("model.n_head", self.n_head, "model.n_embd", self.n_embd)
        if self.n_kv_head is not None:
            check(self.n_kv_head >= 1, "model.n_kv_head", self.n_kv_head, "a whole number of at least 1, or null")
            check_divides("model.n_kv_head", self.n_kv_head, "model.n_head", self.n_head)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """Heads of the keys and values."""
        return self.n_kv_head or self.n_head

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the token embedding and the head."""
        return -(-self.vocab_size // self.vocab_multiple_of) * self.vocab_multiple_of


# ----------------------------------------------------------------------------------------------------- tokenizer, data


@dataclass
class TokenizerConfig:
    """How text becomes token ids."""

    name: str = "gpt2"
    """a key of gpt2lab.tokenizer.TOKENIZERS"""
    vocab_size: int = 50_257
    """number of ids of that tokenizer; the model's vocabulary follows it"""


@dataclass
class DataConfig:
    """Which text, and where its shards live: ``<root>/<name>/<tokenizer>/``."""

    source: str = "python_stdlib"
    """a key of gpt2lab.data.sources.SOURCES"""
    name: str = "python_stdlib"
    """folder under ``root``"""
    root: str = "data"
    """folder of all prepared sets"""
    files: list[str] = field(default_factory=list)
    """paths or globs of the source files (text_files, jsonl_files, parquet_files)"""
    text_column: str = "text"
    """key of the text in a line, or its column (jsonl_files, parquet_files, hub)"""
    delimiter: str | None = None
    """string that separates documents within a file; null: a file is one document (text_files, hub)"""
    min_document_bytes: int = 0
    """shorter neighbours of one file are joined until they reach this length (text_files, hub)"""
    val_fraction: float = 0.02
    """share of the documents held out for validation, chosen by a hash of their text"""
    deduplicate: bool = False
    """leave out copies of a document that came before, byte for byte"""
    hub_path: str | None = None
    """repository of a data set on the Hugging Face Hub, or its local folder (hub)"""
    hub_subset: str | None = None
    """its subset, which the Hub calls configuration (hub)"""
    hub_revision: str | None = None
    """its commit (hub)"""
    hub_split: str = "train"
    """its split; what is held out for validation is a share of it (hub)"""
    expected_bytes: int = 0
    """of its text, for the progress bar; 0: unknown (hub)"""
    mixture: dict[str, float] = field(default_factory=dict)
    """prepared sets by name, each with its weight among the training sequences (mixture)"""
    packing: str = "windows"
    """a key of gpt2lab.data.rows.PACKINGS: windows of the token stream, or whole documents and padding"""
    document_masking: bool = False
    """tokens see their own document alone, and positions begin again with each"""
    document_start: str | None = None
    """pattern of the rows that begin a document, to which the rows after them belong; null: each row is one (hub)"""
    on_error: str = "stop"
    """stop | skip: what to do about a document that cannot be read; those left out are counted"""

    def __post_init__(self) -> None:
        is_folder_name = self.name not in ("", ".", "..") and "/" not in self.name
        check(is_folder_name, "data.name", self.name, "a folder name")
        check(0 < self.val_fraction < 1, "data.val_fraction", self.val_fraction, "a share, 0 < val_fraction < 1")
        check(self.delimiter != "", "data.delimiter", "''", "a non-empty string, or null for one document a file")
        check(min(self.mixture.values(), default=1) > 0, "data.mixture", self.mixture, "weights above 0")
        check(self.on_error in ("stop", "skip"), "data.on_error", self.on_error, "stop or skip")
        check(self.min_document_bytes >= 0, "data.min_document_bytes", self.min_document_bytes, "0 or more bytes")


@dataclass
class PrepareConfig:
    """How shards are written; apart from ``shard_tokens``, none of this changes a byte of them."""

    shard_tokens: int = 100_000_000
    """tokens a shard; the last one is shorter"""
    overwrite: bool = False
    """replace a set that is already there"""
    engine: str = "local"
    """a key of gpt2lab.data.engines.ENGINES"""
    num_workers: int | None = None
    """processes that tokenise; null: one a CPU, or none for a small source; 0: this process alone does it"""

    def __post_init__(self) -> None:
        check(self.shard_tokens >= 1, "prepare.shard_tokens", self.shard_tokens, "a whole number of at least 1")
        check(
            self.num_workers is None or self.num_workers >= 0,
            "prepare.num_workers", self.num_workers, "a whole number of at least 0, or null",
        )  # fmt: skip


@dataclass
class PrepareJob:
    """``python prepare.py``"""

    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    verify: bool = False
    """check every hash of the prepared set instead of preparing it"""
    inspect: bool = False
    """show what is in the prepared set instead of preparing it"""


# ------------------------------------------------------------------------------------------------------------- training


@dataclass
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019) with GPT-3's settings (Brown et al. 2020, appendix B); Muon for matrices."""

    name: str = "adamw"
    """a key of gpt2lab.training.optimizer.OPTIMIZERS"""
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
        check(
            self.lr is None or 0 < self.lr < math.inf,
            "optimizer.lr",
            self.lr,
            "a number above 0, or null for 0.3 / n_embd",
        )
        for key in ("beta1", "beta2", "momentum"):
            check(0 <= getattr(self, key) < 1, f"optimizer.{key}", getattr(self, key), f"0 <= {key} < 1")
        check(self.eps > 0, "optimizer.eps", self.eps, "a number above 0")
        check(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")


@dataclass
class ScheduleConfig:
    """The learning rate as a function of the step."""

    name: str = "cosine"
    """a key of gpt2lab.training.schedule.SCHEDULES"""
    warmup_steps: int | None = None
    """steps of linear warm-up; null: 5 % of the run"""
    min_lr_ratio: float = 0.1
    """final learning rate as a share of the peak"""
    decay_share: float = 0.2
    """share of the run, after warm-up, in which the rate falls (wsd only)"""

    def __post_init__(self) -> None:
        check(
            self.warmup_steps is None or self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "0 or more"
        )
        check(0 <= self.min_lr_ratio <= 1, "schedule.min_lr_ratio", self.min_lr_ratio, "0 <= min_lr_ratio <= 1")
        check(0 < self.decay_share <= 1, "schedule.decay_share", self.decay_share, "a share, above 0 to 1")

    def warmup_of(self, total_steps: int) -> int:
        """Steps of warm-up in a run of ``total_steps``; a ``UserError`` if nothing would be left of the run."""
        steps = int(0.05 * total_steps) if self.warmup_steps is None else self.warmup_steps
        check(steps < total_steps, "schedule.warmup_steps", steps, f"fewer than the run's {total_steps} steps, or null")
        return steps


@dataclass
class TrainingConfig:
    """Length of the run, size of the batch, and what happens every so many steps."""

    max_steps: int | None = None
    """optimizer steps (give exactly one of max_steps, max_tokens, max_epochs)"""
    max_tokens: int | None = None
    """trained tokens; rounded up to a whole step"""
    max_epochs: float | None = None
    """passes over the training split; rounded up to a whole step"""
    batch_tokens: int = 8_192
    """tokens an optimizer step, over all processes and micro-batches"""
    micro_batch_size: int | None = None
    """sequences a forward pass; null: as many as fit into 8,192 tokens. Accumulation follows from batch_tokens"""
    sequence_length: int | None = None
    """tokens a training sequence; null: model.block_size"""
    grad_clip: float = 1.0
    """largest L2 norm of the whole gradient; 0: no clipping"""
    max_skips: int = 5
    """steps in a row that are skipped because loss or gradient is no number, before the run is stopped"""
    log_every: int = 10
    """steps between lines of metrics.jsonl"""
    eval_every: int = 100
    """steps between validations; 0: only at the end"""
    eval_tokens: int = 65_536
    """validation tokens scored each time, always the same windows, spread over the split"""
    checkpoint_every: int = 100
    """steps between checkpoints, besides those with the best validation loss so far; 0: only these and the last"""
    keep_checkpoints: int = 2
    """newest checkpoints kept; the best one is kept besides"""

    def __post_init__(self) -> None:
        lengths = {key: getattr(self, key) for key in ("max_steps", "max_tokens", "max_epochs")}
        given = [key for key, value in lengths.items() if value is not None]
        if len(given) != 1:
            found = " and ".join(f"training.{key}={lengths[key]}" for key in given) or "none"
            mend = f"; add training.{given[0]}=null" if given else "; add training.max_steps=1000"
            raise UserError(
                f"training length: expected exactly one of max_steps, max_tokens, max_epochs, found {found}{mend}"
            )
        check(0 < lengths[given[0]] < math.inf, f"training.{given[0]}", lengths[given[0]], "a finite number above 0")
        for key in ("batch_tokens", "eval_tokens", "log_every", "keep_checkpoints"):
            check(getattr(self, key) >= 1, f"training.{key}", getattr(self, key), "a whole number of at least 1")
        for key in ("eval_every", "checkpoint_every", "grad_clip", "max_skips"):
            check(getattr(self, key) >= 0, f"training.{key}", getattr(self, key), "0 or more")
        for key in ("micro_batch_size", "sequence_length"):
            value = getattr(self, key)
            check(value is None or value >= 1, f"training.{key}", value, "a whole number of at least 1, or null")


@dataclass
class LoggerConfig:
    """Who is told the figures besides ``metrics.jsonl``."""

    names: list[str] = field(default_factory=list)
    """keys of gpt2lab.training.loggers.LOGGERS: wandb, tensorboard"""
    project: str = "gpt2lab"
    """W&B project"""
    group: str | None = None
    """W&B group; in a sweep the default is its folder"""
    tags: list[str] = field(default_factory=list)
    """W&B tags"""


@dataclass
class RuntimeConfig:
    """Where and in which number format the work is done."""

    device: str = "auto"
    """auto (cuda, else mps, else cpu) | cpu | cuda | cuda:N | mps"""
    precision: str = "auto"
    """auto | fp32 | bf16: format of the matrix products; weights, softmax and sums stay float32"""
    num_processes: int = 1
    """processes to start on this machine, each with its share of every batch; under torchrun leave it at 1"""

    def __post_init__(self) -> None:
        check(self.precision in ("auto", "fp32", "bf16"), "runtime.precision", self.precision, "auto, fp32 or bf16")
        check(self.num_processes >= 1, "runtime.num_processes", self.num_processes, "a whole number of at least 1")


@dataclass
class TrainJob:
    """``python train.py``"""

    model: ModelConfig = field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(max_steps=1000))
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    seed: int = 1337
    """of the weights, the data order and dropout, each with a stream of its own"""
    run_dir: str | None = None
    """folder of this run; null: runs/<day>/<time>-<id>"""
    resume: str | None = None
    """null | auto (newest complete checkpoint of run_dir, or of the newest run) | a run or checkpoint folder"""
    init_from: str | None = None
    """run or checkpoint folder to take the weights, and nothing else, from"""
    ignore_data_fingerprint: bool = False
    """resume although the data is not what the checkpoint was trained on"""

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**32, "seed", self.seed, "a whole number, 0 <= seed < 2**32")
        if self.resume and self.init_from:
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
        """Tokens a training sequence."""
        return self.training.sequence_length or self.model.block_size

    @property
    def batch_size(self) -> int:
        """Sequences an optimizer step."""
        return self.training.batch_tokens // self.sequence_length

    def micro_batch_of(self, world_size: int) -> int:
        """Sequences a forward pass of one of ``world_size`` processes: as given, else as many as 8,192 tokens hold.

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

    def total_steps(self, epoch_tokens: int) -> int:
        """Optimizer steps of the whole run, where one pass over the training split takes ``epoch_tokens`` tokens."""
        if self.training.max_steps is not None:
            return self.training.max_steps
        tokens = self.training.max_tokens or epoch_tokens * (self.training.max_epochs or 0)
        return math.ceil(tokens / self.training.batch_tokens)


# ------------------------------------------------------------------------------------------------- evaluation, sampling


@dataclass
class PerplexityConfig:
    """Which text is scored, and with how much context."""

    text_file: str | None = None
    """a UTF-8 text to score; null: the run's validation split"""
    stride: int | None = None
    """tokens between windows; null: the window's length. A smaller stride gives each token more context"""
    batch_size: int = 8
    """windows a forward pass; the figures do not depend on it"""

    def __post_init__(self) -> None:
        check(
            self.stride is None or self.stride >= 1, "eval.stride", self.stride, "a whole number of at least 1, or null"
        )
        check(self.batch_size >= 1, "eval.batch_size", self.batch_size, "a whole number of at least 1")


@dataclass
class EvalJob:
    """``python eval.py``"""

    checkpoint: str | None = None
    """a run, a checkpoint, a Hugging Face directory, or a name there (gpt2, ORG/NAME); null: the newest run"""
    out: str | None = None
    """file of the figures; null: eval.json in the run folder, or here if it is no run"""
    eval: PerplexityConfig = field(default_factory=PerplexityConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


@dataclass
class SamplingConfig:
    """How the next token is drawn."""

    temperature: float = 1.0
    """divides the logits; 0: the most likely token (greedy)"""
    top_k: int | None = None
    """keep the k most likely tokens; null: all"""
    top_p: float | None = None
    """keep the smallest set of tokens whose probabilities reach p (Holtzman et al. 2020); null: all"""
    max_new_tokens: int = 128
    """tokens to add at most; end-of-text ends a sample early"""
    num_samples: int = 1
    """continuations of the prompt"""
    batch_size: int = 16
    """rows that are decoded together; the samples do not depend on it"""
    seed: int = 0
    """sample i depends on (seed, i) alone"""

    def __post_init__(self) -> None:
        check(
            self.temperature >= 0 and math.isfinite(self.temperature),
            "sampling.temperature", self.temperature, "0 (greedy) or a finite number above it",
        )  # fmt: skip
        check(
            self.top_k is None or self.top_k >= 1, "sampling.top_k", self.top_k, "a whole number of at least 1, or null"
        )
        check(self.top_p is None or 0 < self.top_p <= 1, "sampling.top_p", self.top_p, "0 < top_p <= 1, or null")
        for key in ("max_new_tokens", "num_samples", "batch_size"):
            check(getattr(self, key) >= 1, f"sampling.{key}", getattr(self, key), "a whole number of at least 1")
        check(self.seed >= 0, "sampling.seed", self.seed, "0 or more")


@dataclass
class SampleJob:
    """``python sample.py``"""

    checkpoint: str | None = None
    """a run, a checkpoint, a Hugging Face directory, or a name there (gpt2, ORG/NAME); null: the newest run"""
    prompt: str = ""
    """text to continue; empty: start a new document"""
    stream: bool = True
    """print the text as it is drawn, one sample after another; false: draw all together, which is faster"""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


@dataclass
class ExportJob:
    """``python export.py``"""

    checkpoint: str | None = None
    """a run, a checkpoint, a Hugging Face directory, or a name there (gpt2, ORG/NAME); null: the newest run"""
    out: str | None = None
    """folder to write, yet to be made"""


# ------------------------------------------------------------------------------------------------------- plain values


def to_dict(config: Any) -> dict[str, Any]:
    """A config as nested plain values, ready for YAML, JSON or a checkpoint."""
    return dataclasses.asdict(config)


def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """Rebuild a config (and so check it again) from ``to_dict``'s output; an unknown key is a ``UserError``."""
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UserError(f"{cls.__name__}: unknown key {unknown[0]}{did_you_mean(unknown[0], hints)}")
    nested = {k: from_dict(hints[k], v) if dataclasses.is_dataclass(hints[k]) else v for k, v in values.items()}
    return cls(**nested)
