"""Parquet files of this machine, and data sets of the Hugging Face Hub, which are Parquet files after a download.

A chunk is a range of rows; a worker that is handed ascending ranges of a file decodes each row group once.
"""

import bisect
import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpt2lab.config import DataConfig, UserError
from gpt2lab.data.sources.base import CHUNK_BYTES, FileSource, Chunk, Problem, Source, Span

BATCH_ROWS = 512
"""Sequences decoded at a time"""


class ParquetFiles(FileSource):
    """Files named by ``data.files``; a document is the string in the column ``data.text_column`` of a row."""

    name = "parquet_files"
    suffix = ".parquet"

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._reader: RowReader | None = None

    def settings(self) -> dict[str, Any]:
        """See ``FileSource.settings``."""
        return {"text_column": self.config.text_column}

    def size_bytes(self) -> int:
        """See ``Source.size_bytes``; only the text column counts, uncompressed."""
        return sum(chunk.size for chunk in self.chunks())

    def chunks(self) -> Iterator[Chunk]:
        """See ``Source.chunks``."""
        for path in self.files():
            yield from row_chunks(path, self.config.text_column)

    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """See ``Source.read``."""
        if chunk.problem:
            yield chunk.problem
            return
        (span,) = chunk.spans
        if self._reader is None or self._reader.path != span.path or self._reader.row > span.begin:
            self._reader = RowReader(span.path, self.config.text_column, span.begin)
        yield from self._reader.read(span.begin, span.end)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None}  # an open file cannot be sent to a worker


class RowReader:
    """Reads the rows of one file's text column from the beginning of a row group on, forwards."""

    def __init__(self, path: str, column: str, row: int) -> None:
        file = open_parquet(Path(path))
        self.path = path
        self._column = column
        ends = list(itertools.accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)))
        group = bisect.bisect_right(ends, row)
        self.row = ends[group - 1] if group else 0
        groups = list(range(group, len(ends)))
        self._batches = file.iter_batches(BATCH_ROWS, row_groups=groups, columns=[column], use_threads=False)
        self._values: list[Any] = []

    def read(self, begin: int, end: int) -> Iterator[str | Problem]:
        """The documents of the rows [begin, end)."""
        while self.row < end:
            if not self._values:
                self._values = next(self._batches).column(0).to_pylist()
            skip = max(0, min(begin - self.row, len(self._values)))
            take = self._values[skip : skip + end - self.row - skip]
            first = self.row + skip
            self._values = self._values[skip + len(take) :]
            self.row = first + len(take)
            for row, value in enumerate(take, start=first):
                if isinstance(value, str):
                    yield value
                else:
                    found = "null" if value is None else type(value).__name__
                    where = f"{self.path}: row {row}"
                    yield Problem("not a string", f"{where}: expected a string in {self._column!r}, found {found}")


def row_chunks(path: Path, column: str) -> Iterator[Chunk]:
    """Ranges of rows of about ``CHUNK_BYTES`` of text each; never over the border of a row group."""
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
    """An open Parquet file; a ``UserError`` if it is none, or the package is missing."""
    try:
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise UserError(f"{path}: reading Parquet needs a package: type pip install 'gpt2lab[data]'") from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: expected a Parquet file ({reason}): fetch or write it again") from None


def split_text(text: str, delimiter: str, min_bytes: int) -> Iterator[str]:
    """The documents in a text, divided as those of ``text_files`` are."""
    waiting: str | None = None
    for part in text.split(delimiter):
        waiting = part if waiting is None else waiting + delimiter + part
        if not waiting or len(waiting.encode("utf-8")) >= min_bytes:
            yield waiting
            waiting = None
    if waiting is not None:
        yield waiting


def as_content(documents: list[list[str]]) -> bytes:
    """Documents, each given as its rows, for a chunk to carry."""
    return json.dumps(["".join(rows) for rows in documents]).encode()


class HubDataset(ParquetFiles):
    """One split of a data set of the Hugging Face Hub, at a pinned revision.

    ``datasets`` finds the files; they are fetched one after the other into the Hub's cache, ahead of the workers. With
    ``data.document_start``, the rows are joined to documents that each begin at a row which the pattern matches; with
    ``data.delimiter``, a row is cut into documents as a text file is.
    """

    name = "hub"
    local = False

    def settings(self) -> dict[str, Any]:
        """See ``FileSource.settings``."""
        keys: tuple[str, ...] = ("hub_path", "hub_subset", "hub_revision", "hub_split")
        keys += ("document_start", "delimiter", "min_document_bytes")
        return {"text_column": self.config.text_column} | {key: getattr(self.config, key) for key in keys}

    def size_bytes(self) -> int:
        """See ``Source.size_bytes``: what the configuration expects; 0 where it says nothing."""
        return self.config.expected_bytes

    def describe(self) -> dict[str, Any]:
        """See ``Source.describe``; the revision names the content."""
        return self._recorded_settings()

    def identity(self) -> list[Any]:
        """See ``Source.identity``."""
        return [self._recorded_settings()]

    def difference(self, recorded: Any) -> str | None:
        """See ``Source.difference``; asks no one."""
        return Source.difference(self, recorded)

    def chunks(self) -> Iterator[Chunk]:
        """See ``Source.chunks``."""
        chunks = (chunk for path in self._fetched() for chunk in row_chunks(path, self.config.text_column))
        return chunks if self.config.document_start is None else self._joined(chunks)

    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """See ``Source.read``."""
        if chunk.content is None:
            for row in super().read(chunk):
                if isinstance(row, str) and self.config.delimiter is not None:
                    yield from split_text(row, self.config.delimiter, self.config.min_document_bytes)
                else:
                    yield row
            return
        yield from json.loads(chunk.content)

    def _joined(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Chunks that carry their documents, since one may go on from a file into the next."""
        starts = re.compile(self.config.document_start or "")
        documents: list[list[str]] = [[]]
        size = 0
        for chunk in chunks:
            size += chunk.size
            for row in super().read(chunk):
                if isinstance(row, Problem):
                    yield Chunk(chunk.spans, 0, problem=row)
                    continue
                if starts.match(row) and documents[-1]:
                    documents.append([])
                documents[-1].append(row)
            if len(documents) > 1:
                yield Chunk(chunk.spans, size, content=as_content(documents[:-1]))
                documents, size = documents[-1:], 0
        if documents[-1]:
            yield Chunk((), size, content=as_content(documents))

    def _fetched(self) -> Iterator[Path]:
        """The files on this machine, in order; the next one is fetched meanwhile."""
        names = self._names()
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(self._fetch, names[0])
            for following in [*names[1:], None]:
                path = self._or_user_error(ahead.result)
                if following is not None:
                    ahead = thread.submit(self._fetch, following)
                yield path

    def _names(self) -> list[str]:
        try:
            import datasets  # noqa: PLC0415
        except ImportError:
            raise UserError(
                f"data.hub_path={self.config.hub_path}: the Hub's sets need a package: type pip install 'gpt2lab[data]'"
            ) from None
        make = datasets.load_dataset_builder
        builder = self._or_user_error(
            lambda: make(self.config.hub_path, self.config.hub_subset, revision=self.config.hub_revision)
        )
        files = builder.config.data_files or {}
        if self.config.hub_split not in files:
            raise UserError(f"data.hub_split={self.config.hub_split}: expected one of {', '.join(files) or 'none'}")
        return list(files[self.config.hub_split])

    def _fetch(self, name: str) -> Path:
        if not name.startswith("hf://"):
            return Path(name)
        from huggingface_hub import HfFileSystem, hf_hub_download  # noqa: PLC0415

        place: Any = HfFileSystem().resolve_path(name)
        return Path(
            hf_hub_download(place.repo_id, place.path_in_repo, repo_type="dataset", revision=place.revision)
        )

    def _or_user_error(self, ask: Any) -> Any:
        try:
            return ask()
        except Exception as error:  # of the network, the Hub, the file system: many kinds, one meaning
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise UserError(
                f"data.hub_path={self.config.hub_path}: cannot be had ({reason}): check the network and the name, or "
                "fetch its Parquet files yourself and type data=parquet_files data.files=[...]"
            ) from None
