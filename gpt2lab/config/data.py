"""Text: one dataclass per data source, what they have in common, and how shards are written.

``data=NAME`` selects an entry of ``DATA_SOURCES``. An option of another source is an error, not ignored.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.errors import MOST_PROCESSES, UserError, check, check_name, choose, did_you_mean
from gpt2lab.config.escapes import expand_home

PACKING_NAMES = ("windows", "documents")
"""the keys of gpt2lab.data.loading.sequences.PACKINGS"""
BACKEND_NAMES = ("local", "ray")
"""the keys of gpt2lab.data.preparation.backends.BACKENDS"""


@dataclass
class DataConfig(CheckedConfig):
    """What every data source has; the prepared dataset lives in ``<root>/<name>/<tokenizer>/``."""

    source: str = ""
    """a key of DATA_SOURCES; data=NAME sets it"""
    name: str = ""
    """folder under ``root``"""
    root: str = "data"
    """folder of all prepared datasets"""
    packing: str = "windows"
    """windows (of the token stream) | documents (whole ones, and padding)"""
    document_masking: bool = False
    """tokens attend to their own document only, and positions restart with each document"""
    random_lengths: bool = False
    """each training sequence is cut into texts of random length that do not see each other, with positions from 0"""

    def __post_init__(self) -> None:
        self.root = expand_home(self.root)
        is_folder_name = self.name not in ("", ".", "..") and "/" not in self.name
        check(is_folder_name, "data.name", self.name, "a folder name")
        check_name(self.packing, PACKING_NAMES, "data.packing")
        expected = choose(DATA_SOURCES, self.source, "data")
        check(
            isinstance(self, expected), "data.source", self.source,
            f"the source of the options that are given: type data={self.source}",
        )  # fmt: skip

    @classmethod
    def class_of(cls, values: Mapping[str, Any]) -> type["DataConfig"]:
        """The dataclass of plain values, by their ``source``; an option of another source is a ``UserError``."""
        source = values.get("source", "")
        chosen = choose(DATA_SOURCES, source, "data")
        known = field_names(chosen)
        for key, value in values.items():
            if key not in known:
                raise UserError(f"data.{key}={value}: {explain_option(key, source)}")
        return chosen


@dataclass
class HashSplitConfig(DataConfig):
    """A source whose documents are divided into training and validation split by a hash of their text."""

    val_fraction: float = 0.005
    """share of the documents in the validation split, chosen by a hash of their text"""
    deduplicate: bool = False
    """leave out exact copies of earlier documents"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.val_fraction < 1, "data.val_fraction", self.val_fraction, "a share, 0 < val_fraction < 1")


@dataclass
class ForeignTextConfig(HashSplitConfig):
    """A source whose documents were written by others, and may be damaged."""

    on_error: str = "stop"
    """stop | skip: what to do about an unreadable document; skipped ones are counted"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.on_error in ("stop", "skip"), "data.on_error", self.on_error, "stop or skip")


@dataclass
class FilesConfig(ForeignTextConfig):
    """A source of files on this machine."""

    files: list[str] = field(default_factory=list)
    """paths or globs of the source files"""


@dataclass
class StateOfTheUnionConfig(DataConfig):
    """Annual messages of US presidents, 1790 to 2026; the split is part of the corpus."""

    source: str = "state_of_the_union"
    name: str = "state_of_the_union"


@dataclass
class PythonStdlibConfig(HashSplitConfig):
    """The source of the installed Python's standard library, one document per file."""

    source: str = "python_stdlib"
    name: str = "python_stdlib"
    val_fraction: float = 0.02


@dataclass
class TextFilesConfig(FilesConfig):
    """Plain text files in UTF-8."""

    source: str = "text_files"
    name: str = "text_files"
    val_fraction: float = 0.05
    delimiter: str | None = "\n\n"
    """string that separates documents within a file; \\n in it is a line break, \\r a carriage return, \\t a tab, \\\\
    a backslash; null: a file is one document"""
    min_document_bytes: int = 4096
    """neighbors in a file are joined until they have this length"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_delimiter(self.delimiter, self.min_document_bytes)


@dataclass
class JsonlFilesConfig(FilesConfig):
    """Files of one JSON object per line, plain or compressed."""

    source: str = "jsonl_files"
    name: str = "jsonl_files"
    text_column: str = "text"
    """key of the text in a line"""


@dataclass
class ParquetFilesConfig(FilesConfig):
    """Parquet files, one document per row."""

    source: str = "parquet_files"
    name: str = "parquet_files"
    text_column: str = "text"
    """column of the text; a.b for b within a"""


@dataclass
class HubConfig(ForeignTextConfig):
    """One split of a dataset on the Hugging Face Hub."""

    source: str = "hub"
    name: str = "hub"
    hub_path: str = ""
    """repository of the dataset, OWNER/NAME, or its local folder"""
    hub_subset: str | None = None
    """subset of the dataset, which the Hub calls configuration"""
    hub_revision: str | None = None
    """commit of the dataset, 40 hexadecimal digits; null: for a local folder only"""
    hub_split: str = "train"
    """split to read; the validation split is taken from it"""
    expected_bytes: int = 0
    """size of its text, for the progress bar; 0: unknown"""
    text_column: str = "text"
    """column of the text; a.b for b within a"""
    document_start: str | None = None
    """pattern of the rows that begin a document, which the following rows belong to; null: each row is a document"""
    delimiter: str | None = None
    """string that separates documents within a row, typed as that of text_files; null: a row is one document, or a
    part of one"""
    min_document_bytes: int = 0
    """neighbors in a row are joined until they have this length"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hub_path != "", "data.hub_path", "''", "a dataset of the Hub, OWNER/NAME, or its local folder")
        check_delimiter(self.delimiter, self.min_document_bytes)
        check(
            self.document_start is None or self.delimiter is None, "data.delimiter", repr(self.delimiter),
            "null with data.document_start: rows are joined to documents, or cut into documents",
        )  # fmt: skip
        try:
            re.compile(self.document_start or "")
        except re.error as error:
            raise UserError(
                f"data.document_start={self.document_start}: no regular expression ({error}); expected one; put a "
                "backslash before a character that stands for itself"
            ) from None


@dataclass
class MixtureConfig(DataConfig):
    """Prepared datasets in given proportions."""

    source: str = "mixture"
    name: str = "mixture"
    mixture: dict[str, float] = field(default_factory=dict)
    """prepared datasets by name, each with its weight among the training sequences"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            bool(self.mixture), "data.mixture", self.mixture,
            "prepared datasets and their weights: type 'data.mixture={wikitext2: 0.7, tinystories: 0.3}'",
        )  # fmt: skip
        check(min(self.mixture.values()) > 0, "data.mixture", self.mixture, "weights above 0")


DATA_SOURCES: dict[str, type[DataConfig]] = {
    "state_of_the_union": StateOfTheUnionConfig,
    "python_stdlib": PythonStdlibConfig,
    "text_files": TextFilesConfig,
    "jsonl_files": JsonlFilesConfig,
    "parquet_files": ParquetFilesConfig,
    "hub": HubConfig,
    "mixture": MixtureConfig,
}


def explain_option(key: str, source: str) -> str:
    """What is wrong with the option ``data.<key>`` of a source that does not have it, for the end of an error line."""
    owners = [name for name, config in DATA_SOURCES.items() if key in field_names(config)]
    if owners:
        return f"data={source} has no such option; it is one of data={' or data='.join(owners)}"
    return f"unknown key{did_you_mean(key, field_names(choose(DATA_SOURCES, source, 'data')))}"


def field_names(config: type[DataConfig]) -> Iterable[str]:
    """The options of a data source."""
    return [one.name for one in dataclasses.fields(config)]


def check_delimiter(delimiter: str | None, min_document_bytes: int) -> None:
    """Raise ``UserError`` for an empty delimiter or a negative length."""
    check(delimiter != "", "data.delimiter", "''", "a non-empty string, or null for one document per file")
    check(min_document_bytes >= 0, "data.min_document_bytes", min_document_bytes, "0 or more bytes")


@dataclass
class PrepareConfig(CheckedConfig):
    """How shards are written; apart from ``shard_tokens``, none of this changes a byte of them."""

    shard_tokens: int = 100_000_000
    """tokens per shard; the last one is shorter"""
    overwrite: bool = False
    """replace an existing dataset"""
    backend: str = "local"
    """local (processes on this machine) | ray (a Ray cluster)"""
    num_workers: int | None = None
    """processes that tokenize; null: one per CPU, or none for a small source; 0: only this process"""

    def __post_init__(self) -> None:
        check_name(self.backend, BACKEND_NAMES, "prepare.backend")
        check(self.shard_tokens >= 1, "prepare.shard_tokens", self.shard_tokens, "a whole number of at least 1")
        check(
            self.num_workers is None or 0 <= self.num_workers <= MOST_PROCESSES,
            "prepare.num_workers", self.num_workers, f"a whole number from 0 to {MOST_PROCESSES}, or null",
        )  # fmt: skip
