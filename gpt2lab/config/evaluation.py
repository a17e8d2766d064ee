"""Scores of a model."""

from dataclasses import dataclass, field, fields

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.differences import differences
from gpt2lab.config.errors import UserError, check, check_name
from gpt2lab.config.plain import to_dict
from gpt2lab.config.sample_quality import ContextConfig, SampleQualityConfig
from gpt2lab.config.training import TASK_NAMES

_TEXT = ("text_file", "corpus")
OPTIONS_OF_PART = {
    "perplexity": (*_TEXT, "protocol", "stride", "batch_size"),
    "tasks": ("tasks",),
    "sample_quality": (*_TEXT, "sample_quality"),
    "context": (*_TEXT, "context"),
}
"""the options of ``EvalConfig`` that each part of an evaluation reads"""
PROTOCOL_NAMES = ("stream", "huggingface", "lm_eval", "gpt2_paper", "gpt2_paper_without_line_ends")
"""the keys of ``gpt2lab.evaluation.perplexity.protocols.PROTOCOLS``"""


@dataclass
class CorpusConfig(CheckedConfig):
    """A text to score: a file, or a dataset on the Hugging Face Hub."""

    name: str = "validation_split"
    """name of the corpus in messages and eval.json"""
    format: str = "validation_split"
    """how it is read: validation_split | text | lines | wikitext | documents"""
    file: str | None = None
    """a file here, in the same format as the Hub's data; null: the Hub"""
    hub_path: str | None = None
    """dataset on the Hub, ORG/NAME; null: not on the Hub, eval.corpus.file is required (not by validation_split)"""
    hub_subset: str | None = None
    """subset of the dataset, which the Hub calls configuration"""
    hub_revision: str | None = None
    """commit, branch or tag of the dataset; null: its newest"""
    hub_split: str = "test"
    """part of the dataset, or the part that the file holds"""
    column: str = "text"
    """field of a row that holds the text"""
    detokenizer: str = "none"
    """what undoes the corpus's own tokenization, in the protocols lm_eval and gpt2_paper: none | wikitext | ptb"""
    first_byte: int = 0
    """first byte of the text in the file, which is no .jsonl"""
    last_byte: int | None = None
    """first byte after the text in the file, which is no .jsonl; null: end of the file"""
    get: str = ""
    """where to get the file; shown when it is missing"""

    def __post_init__(self) -> None:
        check(self.first_byte >= 0, "eval.corpus.first_byte", self.first_byte, "0 or more")
        check(
            self.last_byte is None or self.last_byte > self.first_byte,
            "eval.corpus.last_byte", self.last_byte, f"more than first_byte={self.first_byte}, or null",
        )  # fmt: skip
        for option in fields(self):
            value = getattr(self, option.name)
            if self.format == CorpusConfig.format and option.name not in ("name", "format") and value != option.default:
                raise UserError(
                    f"eval.corpus.{option.name}={value}: eval/corpus={self.name} ignores it; expected a corpus of its "
                    "own; try eval/corpus=text_file eval.corpus.file=FILE"
                )


@dataclass
class TasksConfig(CheckedConfig):
    """Which zero-shot tasks, and where their questions are."""

    names: list[str] = field(default_factory=list)
    """gpt2lab's own: lambada_openai, lambada_standard, hellaswag, cbt_cn, cbt_ne, blimp"""
    lm_eval: list[str] = field(default_factory=list)
    """tasks of lm-evaluation-harness, by its names, run through it on this model"""
    folder: str | None = None
    """a folder with NAME.jsonl for tasks that are not to come from the Hub, and YAML files of further lm_eval tasks;
    a line ``!function`` in one runs the Python file it names"""
    limit: int | None = None
    """take the first questions only, of each part of blimp; null: all"""
    batch_size: int = 16
    """questions per forward pass; the results do not depend on it"""

    def __post_init__(self) -> None:
        for name in self.names:
            check_name(name, TASK_NAMES, "eval.tasks.names")
        check(
            self.limit is None or self.limit >= 1,
            "eval.tasks.limit", self.limit, "a whole number of at least 1, or null",
        )  # fmt: skip
        check(self.batch_size >= 1, "eval.tasks.batch_size", self.batch_size, "a whole number of at least 1")


@dataclass
class EvalConfig(CheckedConfig):
    """What is measured of a checkpoint: parts, and the settings of each."""

    parts: list[str] = field(default_factory=lambda: ["perplexity"])
    """perplexity | tasks | sample_quality | context, in the order of the table"""
    protocol: str = "stream"
    """perplexity protocol: stream | huggingface | lm_eval | gpt2_paper | gpt2_paper_without_line_ends"""
    text_file: str | None = None
    """a UTF-8 text to score, short for eval/corpus=text_file eval.corpus.file=FILE"""
    stride: int | None = None
    """tokens between windows; null: the protocol's own. A smaller stride gives each token more context"""
    batch_size: int = 8
    """windows per forward pass; the results do not depend on it"""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    sample_quality: SampleQualityConfig = field(default_factory=SampleQualityConfig)
    context: ContextConfig = field(default_factory=ContextConfig)

    def __post_init__(self) -> None:
        check(len(self.parts) >= 1, "eval.parts", self.parts, "at least one, such as [perplexity]")
        for part in self.parts:
            check_name(part, OPTIONS_OF_PART, "eval.parts")
        check_name(self.protocol, PROTOCOL_NAMES, "eval.protocol")
        check(
            self.stride is None or self.stride >= 1, "eval.stride", self.stride, "a whole number of at least 1, or null"
        )
        check(self.batch_size >= 1, "eval.batch_size", self.batch_size, "a whole number of at least 1")
        if self.text_file and self.corpus.name != CorpusConfig.name:
            raise UserError(
                f"eval.text_file={self.text_file} and eval/corpus={self.corpus.name}: give one; the corpus in a file "
                f"of yours is eval.corpus.file={self.text_file}"
            )

    def require_all_read(self) -> None:
        """Raise ``UserError`` for an option that is not its default and that no part of the evaluation reads."""
        for changed in differences(to_dict(EvalConfig()), to_dict(self), "eval."):
            option = changed.key.split(".")[1]
            readers = [part for part, options in OPTIONS_OF_PART.items() if option in options]
            if readers and not set(readers) & set(self.parts):
                given = f"{changed.key}={changed.current}" if option != "corpus" else f"eval/corpus={self.corpus.name}"
                raise UserError(
                    f"{given}: eval.parts=[{','.join(self.parts)}] ignores it; expected {' or '.join(readers)} among "
                    f"the parts; try 'eval.parts=[{','.join([*self.parts, readers[0]])}]', or leave it out"
                )
