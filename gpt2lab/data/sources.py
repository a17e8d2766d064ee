"""Where text comes from: the files or folders a config names -> documents, in a fixed order, one in memory at a time.

A new source is a class here, an entry of ``SOURCES`` and a YAML file under ``configs/data/``.
"""

import glob
import mmap
import os
import platform
import sysconfig
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from gpt2lab.config import DataConfig, UserError, choose
from gpt2lab.files import file_sha256

BOM = b"\xef\xbb\xbf"

HASH_LIMIT_BYTES = 2 * 1024**3
"""Source files that are larger together are compared with a prepared set by size alone: hashing them takes seconds."""


class Source(ABC):
    """Documents in a fixed order."""

    local: ClassVar[bool]
    """the text is on this machine, so that training may prepare it by itself when it is small"""

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.skipped: Counter[str] = Counter()
        """reason -> documents left out by ``documents()``"""

    @abstractmethod
    def documents(self) -> Iterator[str]:
        """Every document's text, which always has a UTF-8 form; counts what it leaves out in ``skipped``."""

    @abstractmethod
    def size_bytes(self) -> int:
        """Bytes that ``documents()`` reads; raises the ``UserError`` of a source that cannot be read."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the text is and its revision, as plain values for the manifest."""

    def difference(self, recorded: Mapping[str, Any]) -> str | None:
        """The first thing that differs from ``recorded``, the description of a prepared set; None if all agree."""
        for key, value in self.describe().items():
            if recorded.get(key) != value:
                return f"{key}={recorded.get(key)!r} there, {key}={value!r} here"
        return None


class PythonStdlib(Source):
    """The Python standard library's own source: real text that is on every machine, one file a document.

    Files that are no valid UTF-8 are left out (the library's tests hold some on purpose).
    """

    local = True

    def documents(self) -> Iterator[str]:
        """See ``Source.documents``."""
        for path in self._files():
            try:
                yield path.read_bytes().decode("utf-8-sig")
            except UnicodeDecodeError:
                self.skipped["not UTF-8"] += 1

    def size_bytes(self) -> int:
        """See ``Source.size_bytes``."""
        return sum(path.stat().st_size for path in self._files())

    def describe(self) -> dict[str, Any]:
        """See ``Source.describe``."""
        return {"source": "python_stdlib", "python": platform.python_version(), "files": len(self._files())}

    def _files(self) -> list[Path]:
        root = Path(sysconfig.get_path("stdlib"))
        found = []
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name not in ("site-packages", "dist-packages", "__pycache__")]
            found += [Path(folder, name) for name in files if name.endswith(".py")]
        return distinct(sorted(filter(Path.is_file, found), key=Path.as_posix))


class TextFiles(Source):
    """UTF-8 files named by ``data.files``, each one document or several documents with ``data.delimiter`` between."""

    local = True

    def documents(self) -> Iterator[str]:
        """See ``Source.documents``; bytes that are no UTF-8 are a ``UserError``."""
        delimiter = self.config.delimiter.encode() if self.config.delimiter is not None else None
        for path in self._files():
            if path.stat().st_size == 0:  # which cannot be mapped
                yield ""
                continue
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for start, end in document_spans(content, delimiter, self.config.min_document_bytes):
                    try:
                        yield content[start:end].decode("utf-8")
                    except UnicodeDecodeError as error:
                        raise UserError(
                            f"{path}: byte {start + error.start} is no valid UTF-8: convert the file first, "
                            f"for example iconv -f latin1 -t utf-8 {path.name} > new.txt"
                        ) from None

    def size_bytes(self) -> int:
        """See ``Source.size_bytes``."""
        return sum(path.stat().st_size for path in self._files())

    def describe(self) -> dict[str, Any]:
        """See ``Source.describe``; reads every file to hash it."""
        files = [
            {"path": path.as_posix(), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in self._files()
        ]
        return self._settings() | {"patterns": list(self.config.files), "files": files}

    def difference(self, recorded: Mapping[str, Any]) -> str | None:
        """See ``Source.difference``; files deleted since then are no difference, nor is an empty ``data.files``."""
        for key, value in self._settings().items():
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

    def _settings(self) -> dict[str, Any]:
        return {
            "source": "text_files",
            "delimiter": self.config.delimiter,
            "min_document_bytes": self.config.min_document_bytes,
        }

    def _files(self) -> list[Path]:
        if not self.config.files:
            raise UserError("data.files=[]: expected the text files to read: type data.files=[first.txt,second.txt]")
        found = []
        for pattern in self.config.files:
            paths = matches(pattern)
            if len(paths) == 1 and paths[0].is_dir():
                raise UserError(
                    f"data.files={pattern}: expected a file, found a folder: type data.files=[{paths[0]}/*.txt]"
                )
            files = [path for path in paths if path.is_file()]
            if not files:
                raise UserError(f"data.files={pattern}: expected a text file, found none of that name: check the path")
            found += files
        return distinct(sorted(found, key=Path.as_posix))


SOURCES: dict[str, Callable[[DataConfig], Source]] = {"python_stdlib": PythonStdlib, "text_files": TextFiles}


def open_source(config: DataConfig) -> Source:
    """The source that ``config`` names; nothing is read yet."""
    return choose(SOURCES, config.source, "data.source")(config)


def document_spans(content: mmap.mmap, delimiter: bytes | None, min_bytes: int) -> Iterator[tuple[int, int]]:
    """Byte offsets [start, end) of the documents of one file, without a byte-order mark.

    A document ends at the first delimiter that leaves it ``min_bytes`` long; only the last one may be shorter. Two
    delimiters in a row enclose an empty document. UTF-8 needs no decoding here: one character's bytes are never
    found inside another's.
    """
    start = len(BOM) if content[: len(BOM)] == BOM else 0
    end = content.find(delimiter, start) if delimiter else -1
    while delimiter and end >= 0:
        next_start = end + len(delimiter)
        if end == start or end - start >= min_bytes:
            yield start, end
            start = next_start
        end = content.find(delimiter, next_start)
    yield start, len(content)


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
