"""Parquet files: one document per row.

A chunk is a range of rows. A worker that gets ascending ranges of a file decodes each row group once.
"""

import bisect
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2lab.config import UserError, not_installed, one_line
from gpt2lab.config.data import ParquetFilesConfig
from gpt2lab.data.sources.base import CHUNK_BYTES, Chunk, FileSource, Problem, Span

BATCH_ROWS = 512
"""Rows decoded at a time"""


class ParquetFiles(FileSource):
    """Parquet files; a document is the string in the column ``data.text_column`` of a row, ``a.b`` for b within a."""

    suffix = ".parquet"

    def __init__(self, config: ParquetFilesConfig) -> None:
        super().__init__(config)
        self.text_column = config.text_column
        self._rows = RowRanges(config.text_column)

    def settings(self) -> dict[str, Any]:
        """See ``FileSource.settings``."""
        return {"text_column": self.text_column}

    def size_bytes(self) -> int:
        """See ``Source.size_bytes``; only the text column counts, uncompressed."""
        return sum(chunk.size for chunk in self.chunks())

    def chunks(self) -> Iterator[Chunk]:
        """See ``Source.chunks``."""
        for path in self.files():
            yield from row_chunks(path, self.text_column)

    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """See ``Source.read``."""
        return self._rows.read(chunk)


class RowRanges:
    """Reads chunks that ``row_chunks`` made; keeps the file of the last one open for the next."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._reader: RowReader | None = None

    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """The values of the column in the rows of a chunk; a ``Problem`` for each that is not a string."""
        if chunk.problem:
            yield chunk.problem
            return
        (span,) = chunk.spans
        if self._reader is None or self._reader.path != span.path or not self._reader.reaches(span.begin):
            self._reader = RowReader(span.path, self._column, span.begin)
        yield from self._reader.read(span.begin, span.end)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None}  # an open file cannot be sent to a worker


class RowReader:
    """Reads the rows of one file's text column, forwards from the row group that holds ``row``."""

    def __init__(self, path: str, column: str, row: int) -> None:
        file = open_parquet(Path(path))
        self.path = path
        self._column = column
        rows_of_groups = (file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))
        self._ends = ends = list(itertools.accumulate(rows_of_groups))
        group = bisect.bisect_right(ends, row)
        self.row = ends[group - 1] if group else 0
        self._batches = itertools.chain.from_iterable(
            file.iter_batches(BATCH_ROWS, row_groups=[number], columns=[column], use_threads=False)
            for number in range(group, len(ends))
        )
        self._values: list[Any] = []

    def reaches(self, row: int) -> bool:
        """Whether ``row`` is ahead in the same row group; one in between may be damaged, and is another worker's."""
        return self.row <= row and bisect.bisect_right(self._ends, self.row) == bisect.bisect_right(self._ends, row)

    def read(self, begin: int, end: int) -> Iterator[str | Problem]:
        """The documents of the rows [begin, end); damaged data is one ``Problem`` in place of the rest."""
        while self.row < end:
            if not self._values:
                try:
                    self._values = values_of(next(self._batches).column(0))
                except (OSError, ValueError) as error:  # pyarrow raises both for damaged data
                    first = max(begin, self.row)
                    where = f"{self.path}: the data is damaged from row {first} on ({one_line(error)})"
                    self.row = sys.maxsize  # the next chunk needs a new reader
                    yield Problem("damaged file", where, end - first)
                    return
            skip = max(0, min(begin - self.row, len(self._values)))
            take = self._values[skip : skip + end - self.row - skip]
            first = self.row + skip
            self._values = self._values[skip + len(take) :]
            self.row = first + len(take)
            for row, value in enumerate(map(within_structs, take), start=first):
                where = f"{self.path}: row {row}"
                if isinstance(value, str):
                    yield value
                elif isinstance(value, UnicodeDecodeError):
                    yield Problem("not UTF-8", f"{where}: byte {value.start} of {self._column!r} is not valid UTF-8")
                else:
                    found = "null" if value is None else type(value).__name__
                    yield Problem("not a string", f"{where}: expected a string in {self._column!r}, found {found}")


def values_of(column: Any) -> list[Any]:
    """The values of a pyarrow column; the error in place of one that is not UTF-8, which pyarrow does not check."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        return [value_of(scalar) for scalar in column]
    return values


def value_of(scalar: Any) -> Any:
    """The value of a pyarrow scalar, or why it is none."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return error


def within_structs(value: Any) -> Any:
    """The value of a column within others (``translation.en``), which is read as objects of one key."""
    while isinstance(value, dict):
        (value,) = value.values()
    return value


def row_chunks(path: Path, column: str) -> Iterator[Chunk]:
    """Ranges of rows of about ``CHUNK_BYTES`` of text each, none across the border of a row group."""
    metadata = open_parquet(path).metadata
    columns = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    if column not in columns:
        message = f"{path}: expected the column {column!r}, found {', '.join(columns)}: name it with data.text_column="
        yield Chunk((Span(str(path), 0, 0),), 0, problem=Problem("missing column", message, metadata.num_rows))
        return
    first = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        size = metadata.row_group(group).column(columns.index(column)).total_uncompressed_size
        step = max(1, rows * CHUNK_BYTES // max(1, size))
        for begin in range(0, rows, step):
            end = min(begin + step, rows)
            chunk_size = size * end // rows - size * begin // rows
            yield Chunk((Span(str(path), first + begin, first + end),), chunk_size)
        first += rows


def open_parquet(path: Path) -> Any:
    """An open Parquet file; a ``UserError`` if it is damaged, or pyarrow is not installed."""
    try:
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise not_installed(str(path), "pyarrow", "pyarrow") from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except Exception as error:  # pyarrow raises many kinds for damaged data
        raise UserError(f"{path}: expected a Parquet file ({one_line(error)}): fetch or write it again") from None
