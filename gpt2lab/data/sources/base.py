"""The interface of a data source, and what sources of files share.

A source divides its text into chunks of about a megabyte, in a fixed order. The division is a function of the text
alone, so that any number of workers can read chunks at once and the result, in the order of the chunks, is the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from gpt2lab.config import DataConfig, UserError
from gpt2lab.config.data import FilesConfig
from gpt2lab.data.sources.paths import distinct, find_moved, locate, matches
from gpt2lab.files import file_sha256

CHUNK_BYTES = 1024**2
"""Text of a chunk, roughly: a fraction of a second's work, so that workers end together and a kill costs little."""

CHUNK_SPANS = 2**14
"""Documents of a chunk at most, for texts of many documents that are empty or nearly so"""

HASH_LIMIT_BYTES = 2 * 1024**3
HASH_LIMIT_FILES = 20_000
"""Source files larger or more than this are compared with a prepared dataset by size only: hashing takes seconds."""


class Span(NamedTuple):
    """A part of a file: bytes, or rows of a table, [begin, end)."""

    path: str
    begin: int
    end: int


class Problem(NamedTuple):
    """Replaces documents that cannot be read."""

    reason: str
    """a few words, the same for all of a kind"""
    message: str
    """one line with the place and what to do; empty where it is expected, and then it never stops anything"""
    documents: int = 1


class Chunk(NamedTuple):
    """The part of a source that a worker reads at a time."""

    spans: tuple[Span, ...]
    size: int
    """its share of ``Source.size_bytes``"""
    content: bytes | None = None
    """the text itself, where it can only be read from the beginning (compressed files)"""
    problem: Problem | None = None
    """in place of documents: the file is damaged from here on"""
    split: str | None = None
    """train or val, where the source divides its text itself; None: the hash of each document decides"""


class Source(ABC):
    """Documents in a fixed order. It holds only settings, so that it can be pickled and sent to a worker."""

    local: ClassVar[bool]
    """the text is on this machine, so that training may prepare it by itself if it is small"""
    split_rule: ClassVar[str | None] = None
    """how the source itself divides its text into train and val; None: by a hash of each document"""

    val_fraction: float | None = None
    """share of the documents in the validation split; None where the source divides its text itself"""
    deduplicate: bool = False
    """leave out exact copies of earlier documents"""
    skip_unreadable: bool = False
    """leave out and count unreadable documents instead of stopping"""

    def __init__(self, config: DataConfig) -> None:
        self.name = config.source
        """its key in ``SOURCES``"""

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """All chunks, in order."""

    @abstractmethod
    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """The documents of a chunk, in order; the text of each has a UTF-8 form."""

    @abstractmethod
    def size_bytes(self) -> int:
        """The sum of the sizes of all chunks; raises the ``UserError`` of a source that cannot be read."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The text and its revision, as plain values for the manifest; may read all of it."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """Plain values that change when the text is likely to have changed; quick."""

    def difference(self, recorded: Mapping[str, Any]) -> str | None:
        """The first value that differs from ``recorded``, the description in a manifest; None if all agree."""
        for key, value in self.describe().items():
            if recorded.get(key) != value:
                return f"{key}={recorded.get(key)!r} there, {key}={value!r} here"
        return None

    def label(self) -> str:
        """How the user names the source, for the beginning of an error line."""
        return f"data={self.name}"

    def warning(self) -> str | None:
        """One line about text that is likely to be divided in another way than meant; None if there is none."""
        return None

    def how_to_divide(self) -> str:
        """What to do if all of the text is a single document, for the end of an error line."""
        return "cut it with 'data.delimiter=\"\\n\\n\"' data.min_document_bytes=4096 (data=text_files), or add text"


def first_difference(settings: Mapping[str, Any], recorded: Mapping[str, Any]) -> str | None:
    """The first of ``settings`` that is recorded with another value; None if all agree."""
    for key, value in settings.items():
        if recorded.get(key) != value:
            return f"data.{key}={recorded.get(key)!r} there, data.{key}={value!r} here"
    return None


def are_compared_by_hash(files: Collection[Mapping[str, Any]]) -> bool:
    """Whether the recorded files are few and small enough to be hashed whenever a dataset is opened."""
    return sum(file["bytes"] for file in files) < HASH_LIMIT_BYTES and len(files) <= HASH_LIMIT_FILES


class FileSource(Source):
    """A source of the files that ``data.files`` names."""

    local = True
    suffix: ClassVar[str]
    """of the usual file name, for the error messages"""

    def __init__(self, config: FilesConfig) -> None:
        super().__init__(config)
        self.patterns = list(config.files)
        self.val_fraction = config.val_fraction
        self.deduplicate = config.deduplicate
        self.skip_unreadable = config.on_error == "skip"

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What else the documents depend on, as plain values."""

    def size_bytes(self) -> int:
        """See ``Source.size_bytes``."""
        return sum(path.stat().st_size for path in self.files())

    def describe(self) -> dict[str, Any]:
        """See ``Source.describe``; reads every file to hash it."""
        files = [
            {"path": path.as_posix(), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in self.files()
        ]
        return self._recorded_settings() | {"patterns": self.patterns, "files": files}

    def identity(self) -> list[Any]:
        """See ``Source.identity``."""
        files = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in self.files()]
        return [self._recorded_settings(), files]

    def difference(self, recorded: Mapping[str, Any]) -> str | None:
        """See ``Source.difference``; files deleted since then are no difference, nor is an empty ``data.files``."""
        if changed := first_difference(self._recorded_settings(), recorded):
            return changed
        matched = [name for pattern in self.patterns for name in matches(pattern)]
        found = locate([*matched, *(file["path"] for file in recorded["files"])])
        files = {found[file["path"]].real: file for file in recorded["files"]}
        hashing = are_compared_by_hash(files.values())
        if self.patterns:
            named = {found[name].real for name in matched}
            files = find_moved(files, dict(found[name] for name in matched), hashing)
            if added := sorted(path for path in named - set(files) if not Path(path).is_dir()):
                return f"it lacks {added[0]}"
            same_patterns = recorded["patterns"] == self.patterns
            left_out = (path for path in files if path not in named)
            if path := next((path for path in left_out if not same_patterns or Path(path).is_file()), None):
                return f"it holds {path} too"
        for file in files.values():
            real, size = found[file["path"]]
            if size is not None and (size != file["bytes"] or (hashing and file_sha256(Path(real)) != file["sha256"])):
                return f"{real} has changed since"
        return None

    def label(self) -> str:
        """See ``Source.label``."""
        return f"data.files=[{','.join(self.patterns)}]"

    def files(self) -> list[Path]:
        """The files, sorted by path, each once; a ``UserError`` for a name without a file."""
        if not self.patterns:
            raise UserError(
                f"data.files=[]: expected the files to read: type data.files=[first{self.suffix},second{self.suffix}]"
            )
        found = []
        for pattern in self.patterns:
            paths = [Path(name) for name in matches(pattern)]
            if len(paths) == 1 and paths[0].is_dir():
                raise UserError(
                    f"data.files={pattern}: expected a file, found a folder: "
                    f"type data.files=[{paths[0]}/*{self.suffix}]"
                )
            files = [path for path in paths if path.is_file()]
            if not files:
                raise UserError(f"data.files={pattern}: expected a text file, found none of that name: check the path")
            found += files
        return distinct(sorted(found, key=Path.as_posix))

    def _recorded_settings(self) -> dict[str, Any]:
        return {"source": self.name} | self.settings()


def stop_or_skip(problem: Problem, source: Source) -> None:
    """Raise the ``UserError`` of a problem unless ``source`` leaves unreadable documents out."""
    if problem.message and not source.skip_unreadable:
        raise UserError(f"{problem.message}; or leave such documents out with data.on_error=skip")


def group(spans: Iterable[tuple[Span, int]]) -> Iterator[Chunk]:
    """Chunks of neighboring spans, each with its size; all but the last have ``CHUNK_BYTES`` or ``CHUNK_SPANS``."""
    chosen: list[Span] = []
    size = 0
    for span, span_size in spans:
        chosen.append(span)
        size += span_size
        if size >= CHUNK_BYTES or len(chosen) == CHUNK_SPANS:
            yield Chunk(tuple(chosen), size)
            chosen, size = [], 0
    if chosen:
        yield Chunk(tuple(chosen), size)
