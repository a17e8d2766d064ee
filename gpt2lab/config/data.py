"""Text: which, how it becomes token ids, how shards are written."""

from dataclasses import dataclass, field

from gpt2lab.config.errors import check


@dataclass
class DataConfig:
    """Which text, and where its shards live: ``<root>/<name>/<tokenizer>/``."""

    source: str = "state_of_the_union"
    """a key of gpt2lab.data.sources.SOURCES"""
    name: str = "state_of_the_union"
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
    """a key of gpt2lab.data.loading.sequences.PACKINGS: windows of the token stream, or whole documents and padding"""
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
    """a key of gpt2lab.data.preparation.backends.ENGINES"""
    num_workers: int | None = None
    """processes that tokenise; null: one a CPU, or none for a small source; 0: this process alone does it"""

    def __post_init__(self) -> None:
        check(self.shard_tokens >= 1, "prepare.shard_tokens", self.shard_tokens, "a whole number of at least 1")
        check(
            self.num_workers is None or self.num_workers >= 0,
            "prepare.num_workers", self.num_workers, "a whole number of at least 0, or null",
        )  # fmt: skip
