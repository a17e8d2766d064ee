"""Where text comes from: a source's files -> chunks of about a megabyte, in a fixed order -> documents.

The division into chunks is a function of the files alone, so that any number of workers can read them at once and the
result, put together in the order of the chunks, is always the same.
"""

import glob
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from gpt2lab.config import DataConfig, UserError
from gpt2lab.files import file_sha256

CHUNK_BYTES = 1024**2
"""Text of a chunk, roughly: a fraction of a second's work, so that workers end together and little is lost by a kill."""

HASH_LIMIT_BYTES = 2 * 1024**3
"""Source files that are larger together are compared with a prepared set by size alone: hashing them takes seconds."""


class Span(NamedTuple):
    """A part of a file: bytes, or rows of a table, [begin, end)."""

    path: str
    begin: int
    end: int


class Problem(NamedTuple):
    """What stands in the place of documents that cannot be read."""

    reason: str
    """a few words, the same for all of a kind"""
    message: str
    """one line with the place and what to do; empty where it is to be expected, and never stops anything"""
    documents: int = 1


class Chunk(NamedTuple):
    """What one worker reads at a time."""

    spans: tuple[Span, ...]
    size: int
    """its share of ``Source.size_bytes``"""
    content: bytes | None = None
    """the text itself, where it can only be read from the beginning (compressed files)"""
    problem: Problem | None = None
    """instead of documents: the file is damaged from here on"""
    split: str | None = None
    """train or val, where the source divides the text itself; None: each document's hash decides"""


class Source(ABC):
    """Documents in a fixed order. It holds nothing but its settings, so that it can be sent to a worker."""

    local: ClassVar[bool]
    """the text is on this machine, so that training may prepare it by itself when it is small"""
    split_rule: ClassVar[str | None] = None
    """how the source itself divides the text into train and val; None: by a hash of each document"""

    def __init__(self, config: DataConfig) -> None:
        self.config = config

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """All chunks, in order."""

    @abstractmethod
    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """The documents of a chunk, in order; the text of each has a UTF-8 form."""

    @abstractmethod
    def size_bytes(self) -> int:
        """What the sizes of the chunks add up to; raises the ``UserError`` of a source that cannot be read."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the text is and its revision, as plain values for the manifest; may read all of it."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """Plain values that change when the text is likely to have changed; quick."""

    def difference(self, recorded: Mapping[str, Any]) -> str | None:
        """The first thing that differs from ``recorded``, the description of a prepared set; None if all agree."""
        for key, value in self.describe().items():
            if recorded.get(key) != value:
                return f"{key}={recorded.get(key)!r} there, {key}={value!r} here"
        return None


class FileSource(Source):
    """A source of the files that ``data.files`` names."""

    local = True
    name: ClassVar[str]
    """its key in ``SOURCES``"""
    suffix: ClassVar[str]
    """of the usual file name, for the error messages"""

    def settings(self) -> dict[str, Any]:
        """What else the documents depend on, as plain values."""
        return {}

    def size_bytes(self) -> int:
        """See ``Source.size_bytes``."""
        return sum(path.stat().st_size for path in self.files())

    def describe(self) -> dict[str, Any]:
        """See ``Source.describe``; reads every file to hash it."""
        files = [
            {"path": path.as_posix(), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in self.files()
        ]
        return self._recorded_settings() | {"patterns": list(self.config.files), "files": files}

    def identity(self) -> list[Any]:
        """See ``Source.identity``."""
        files = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in self.files()]
        return [self._recorded_settings(), files]

    def difference(self, recorded: Mapping[str, Any]) -> str | None:
        """See ``Source.difference``; files deleted since then are no difference, nor is an empty ``data.files``."""
        for key, value in self._recorded_settings().items():
            if recorded.get(key) != value:
                return f"data.{key}={recorded.get(key)!r} there, data.{key}={value!r} here"
        files = {Path(file["path"]).resolve(): file for file in recorded["files"]}
        if self.config.files:
            named = {path.resolve() for pattern in self.config.files for path in matches(pattern) if not path.is_dir()}
            if added := sorted(named - set(files)):
                return f"it lacks {added[0]}"
            same_patterns = recorded["patterns"] == list(self.config.files)
            if left_out := [path for path in files if path not in named and (path.is_file() or not same_patterns)]:
                return f"it holds {left_out[0]} too"
        hashing = sum(file["bytes"] for file in files.values()) < HASH_LIMIT_BYTES
        for path in filter(Path.is_file, files):
            if path.stat().st_size != files[path]["bytes"] or (hashing and file_sha256(path) != files[path]["sha256"]):
                return f"{path} has changed since"
        return None

    def files(self) -> list[Path]:
        """The files, sorted by path, each once; a ``UserError`` for a name that stands for none."""
        if not self.config.files:
            raise UserError(
                f"data.files=[]: expected the files to read: type data.files=[first{self.suffix},second{self.suffix}]"
            )
        found = []
        for pattern in self.config.files:
            paths = matches(pattern)
            if len(paths) == 1 and paths[0].is_dir():
                raise UserError(
                    f"data.files={pattern}: expected a file, found a folder: type data.files=[{paths[0]}/*{self.suffix}]"
                )
            files = [path for path in paths if path.is_file()]
            if not files:
                raise UserError(f"data.files={pattern}: expected a text file, found none of that name: check the path")
            found += files
        return distinct(sorted(found, key=Path.as_posix))

    def _recorded_settings(self) -> dict[str, Any]:
        return {"source": self.name} | self.settings()


def group(spans: Iterable[tuple[Span, int]]) -> Iterator[Chunk]:
    """Neighbouring spans, each with its size, as chunks of ``CHUNK_BYTES`` or more."""
    chosen: list[Span] = []
    size = 0
    for span, span_size in spans:
        chosen.append(span)
        size += span_size
        if size >= CHUNK_BYTES:
            yield Chunk(tuple(chosen), size)
            chosen, size = [], 0
    if chosen:
        yield Chunk(tuple(chosen), size)


def matches(pattern: str) -> list[Path]:
    """The paths that a pattern stands for; a name without wildcards stands for itself, there or not."""
    path = Path(pattern).expanduser()
    if path.exists() or not glob.has_magic(pattern):
        return [path]
    return [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 (leaves hidden files out)


def distinct(paths: Iterable[Path]) -> list[Path]:
    """``paths`` in order, without those that lead to a file named before."""
    first: dict[Path, Path] = {}
    for path in paths:
        first.setdefault(path.resolve(), path)
    return list(first.values())
