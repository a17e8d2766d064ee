"""Plain text: the source of Python's standard library, and files of one document or of several with a delimiter."""

import codecs
import functools
import itertools
import os
import platform
import shlex
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2lab.config.data import PythonStdlibConfig, TextFilesConfig
from gpt2lab.config.escapes import escape, unescape
from gpt2lab.data.sources.base import Chunk, FileSource, Problem, Source, Span, group
from gpt2lab.data.sources.paths import distinct

BOM = b"\xef\xbb\xbf"
JSON_LINES = (".jsonl", ".ndjson")
PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip")
BINARY_BYTES = 1024
"""Read to tell binary data from text, which has no null characters"""
SCAN_BYTES = 1024**2
"""Read at a time in search of delimiters"""


class PythonStdlib(Source):
    """The source of the installed Python's standard library, one document per file.

    Files that are not valid UTF-8 are always left out and counted: the library's tests contain some on purpose.
    """

    local = True

    def __init__(self, config: PythonStdlibConfig) -> None:
        super().__init__(config)
        self.val_fraction = config.val_fraction
        self.deduplicate = config.deduplicate

    def chunks(self) -> Iterator[Chunk]:
        """See ``Source.chunks``."""
        sizes = ((path, path.stat().st_size) for path in self._files())
        return group((Span(str(path), 0, size), size) for path, size in sizes)

    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """See ``Source.read``."""
        for span in chunk.spans:
            try:
                yield Path(span.path).read_bytes().decode("utf-8-sig")
            except UnicodeDecodeError:
                yield Problem("not UTF-8", "")

    def size_bytes(self) -> int:
        """See ``Source.size_bytes``."""
        return sum(path.stat().st_size for path in self._files())

    def describe(self) -> dict[str, Any]:
        """See ``Source.describe``."""
        return {"source": "python_stdlib", "python": platform.python_version(), "files": len(self._files())}

    def identity(self) -> list[Any]:
        """See ``Source.identity``."""
        return [platform.python_version(), [[str(path), path.stat().st_size] for path in self._files()]]

    def _files(self) -> list[Path]:
        root = Path(sysconfig.get_path("stdlib"))
        found = []
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name not in ("site-packages", "dist-packages", "__pycache__")]
            found += [Path(folder, name) for name in files if name.endswith(".py")]
        return distinct(sorted(filter(Path.is_file, found), key=Path.as_posix))


class TextFiles(FileSource):
    """UTF-8 files, each one document, or several documents separated by ``data.delimiter``."""

    suffix = ".txt"

    def __init__(self, config: TextFilesConfig) -> None:
        super().__init__(config)
        self.delimiter = None if config.delimiter is None else unescape(config.delimiter)
        self.min_document_bytes = config.min_document_bytes

    def settings(self) -> dict[str, Any]:
        """See ``FileSource.settings``."""
        return {"delimiter": self.delimiter, "min_document_bytes": self.min_document_bytes}

    def chunks(self) -> Iterator[Chunk]:
        """See ``Source.chunks``; a span is one document."""
        return group((span, span.end - span.begin) for path in self.files() for span in self._documents(path))

    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """See ``Source.read``."""
        for path, spans in itertools.groupby(chunk.spans, key=lambda span: span.path):
            with Path(path).open("rb") as file:
                for _, begin, end in spans:
                    file.seek(begin)
                    try:
                        yield file.read(end - begin).decode("utf-8")
                    except UnicodeDecodeError as error:
                        where = f"{path}: byte {begin + error.start} is not valid UTF-8"
                        yield Problem("not UTF-8", f"{where}: {as_text(Path(path))}")

    def warning(self) -> str | None:
        """See ``Source.warning``.

        A file holds JSON lines, or its lines end with \\r\\n, and ``data.delimiter`` has \\n alone.
        """
        if json_lines := [path for path in self.files() if path.suffix in JSON_LINES]:
            return (
                f"{json_lines[0]}: is read as it is, JSON keys and quotes included; expected plain text; try "
                "data=jsonl_files for the text in its lines"
            )
        if not (files := self._files_with_crlf):
            return None
        which = f"{files[0]} and {len(files) - 1} more: each" if len(files) > 1 else f"{files[0]}: it"
        return f"{which} is one document, as data.delimiter={self.delimiter!r} is not in it; {self.how_to_divide()}"

    def how_to_divide(self) -> str:
        """See ``Source.how_to_divide``."""
        if self.delimiter is None:
            return super().how_to_divide()
        if self._files_with_crlf:
            return f"lines end with \\r\\n: try 'data.delimiter=\"{escape(with_crlf(self.delimiter))}\"'"
        return (
            f"try another delimiter than data.delimiter={self.delimiter!r}, or fewer than "
            f"data.min_document_bytes={self.min_document_bytes}, or add text"
        )

    @functools.cached_property
    def _files_with_crlf(self) -> list[Path]:
        """Files that the delimiter would cut if its line breaks were \\r\\n, and that it does not cut as it is."""
        if self.delimiter is None or with_crlf(self.delimiter) == self.delimiter:
            return []
        delimiter, other = self.delimiter.encode(), with_crlf(self.delimiter).encode()
        long = (path for path in self.files() if path.stat().st_size > self.min_document_bytes)
        return [path for path in long if not holds(path, delimiter) and holds(path, other)]

    def _documents(self, path: Path) -> Iterator[Span]:
        """The documents of one file, without a byte-order mark.

        A document ends at the first delimiter that leaves it ``min_document_bytes`` long; only the last one may be
        shorter. Two delimiters in a row enclose an empty document.
        """
        size = path.stat().st_size
        with path.open("rb") as file:
            begin = len(BOM) if file.read(len(BOM)) == BOM else 0
        if self.delimiter is not None:
            delimiter = self.delimiter.encode()
            for end in occurrences(path, delimiter, begin):
                if end == begin or end - begin >= self.min_document_bytes:
                    yield Span(str(path), begin, end)
                    begin = end + len(delimiter)
        yield Span(str(path), begin, size)


def as_text(path: Path) -> str:
    """What makes UTF-8 of a file, or which source reads it."""
    if path.suffix in PACKED:
        return "unpack the file first"
    with path.open("rb") as file:
        beginning = file.read(BINARY_BYTES)
    if beginning.startswith(b"PAR1"):
        return "it is a Parquet file: type data=parquet_files"
    is_utf16 = beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in beginning and not is_utf16:
        return "it is no text file; expected plain text"
    encoding = "utf-16" if is_utf16 else "latin1"
    return f"convert the file first, for example iconv -f {encoding} -t utf-8 {shlex.quote(path.name)} > new.txt"


def with_crlf(delimiter: str) -> str:
    """A delimiter whose line breaks are \\r\\n; one that has a \\r stays as it is."""
    return delimiter if "\r" in delimiter else delimiter.replace("\n", "\r\n")


def holds(path: Path, delimiter: bytes) -> bool:
    """Whether ``delimiter`` is in a file."""
    return next(occurrences(path, delimiter, 0), None) is not None


def occurrences(path: Path, delimiter: bytes, begin: int) -> Iterator[int]:
    """Byte positions of ``delimiter`` in a file from byte ``begin`` on, left to right, without overlaps.

    The file is searched undecoded: in UTF-8, the bytes of a character never occur inside another one.
    """
    with path.open("rb") as file:
        file.seek(begin)
        text = b""
        while block := file.read(SCAN_BYTES):
            text += block
            position = 0
            while (found := text.find(delimiter, position)) >= 0:
                yield begin + found
                position = found + len(delimiter)
            position = max(position, len(text) - len(delimiter) + 1)
            begin += position
            text = text[position:]
