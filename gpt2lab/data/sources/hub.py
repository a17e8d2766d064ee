"""Datasets of the Hugging Face Hub, which are files of Parquet or of JSON lines after the download.

1. ``datasets`` names the files of the split at the pinned revision.
2. The files are fetched one after the other into the Hub's cache, ahead of the workers.
3. Their rows are documents. With ``data.document_start``, rows are joined: a row that the pattern matches begins a
   document. With ``data.delimiter``, rows are cut into documents as text files are.

A local folder in the form of such a repository has no commits. Its files are compared as those of other sources are.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpt2lab.config import UserError
from gpt2lab.config.data import HubConfig
from gpt2lab.config.escapes import unescape
from gpt2lab.data.sources.base import HASH_LIMIT_BYTES, Chunk, Problem, Source, are_compared_by_hash, first_difference
from gpt2lab.data.sources.jsonl import COMPRESSED, line_chunks, read_lines
from gpt2lab.data.sources.parquet import RowRanges, row_chunks
from gpt2lab.files import file_sha256
from gpt2lab.hub import fetch_or_explain

COMMIT = re.compile("[0-9a-f]{40}")


class HubDataset(Source):
    """One split of a dataset on the Hugging Face Hub at a commit, or of a local folder of that form.

    Raises:
        UserError: ``data.hub_revision`` is a branch or tag, whose text may change.
    """

    local = False

    def __init__(self, config: HubConfig) -> None:
        super().__init__(config)
        # without a revision it can only be a folder, also where that has been deleted since it was prepared
        self._is_folder = config.hub_revision is None or Path(config.hub_path).is_dir()
        if not self._is_folder and not COMMIT.fullmatch(config.hub_revision or ""):
            raise self._without_a_commit(config)
        self.config = config
        self.val_fraction = config.val_fraction
        self.deduplicate = config.deduplicate
        self.skip_unreadable = config.on_error == "skip"
        self._delimiter = None if config.delimiter is None else unescape(config.delimiter)
        self._rows = RowRanges(config.text_column)
        self._fetched_files: list[dict[str, Any]] = []
        """name, bytes and SHA-256 of the files that ``chunks`` has read; a name in a local folder is relative to it"""

    @staticmethod
    def _without_a_commit(config: HubConfig) -> UserError:
        return UserError(
            f"data.hub_revision={config.hub_revision or 'null'}: expected a commit of {config.hub_path}, 40 "
            "hexadecimal digits, so that the text stays the same; its page on the Hub lists them"
        )

    def size_bytes(self) -> int:
        """See ``Source.size_bytes``; the configured expectation, 0 if unknown."""
        return self.config.expected_bytes

    def describe(self) -> dict[str, Any]:
        """See ``Source.describe``; the revision identifies the content, the hashes let others compare their files."""
        return self._settings() | {"files": self._fetched_files}

    def identity(self) -> list[Any]:
        """See ``Source.identity``."""
        if not self._is_folder:
            return [self._settings()]
        paths = [Path(name) for name in self._or_explain(self._file_names)]
        return [self._settings(), [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]]

    def difference(self, recorded: Mapping[str, Any]) -> str | None:
        """See ``Source.difference``; needs no network. Files deleted from a local folder are no difference."""
        if changed := first_difference(self._settings(), recorded):
            return changed
        return self._changed_file(recorded["files"]) if self._is_folder else None

    def _changed_file(self, recorded: Sequence[Mapping[str, Any]]) -> str | None:
        files = {file["name"]: file for file in recorded}
        try:
            here = {self._name(Path(name)): name for name in self._or_explain(self._file_names)}
        except UserError:
            if any(Path(self.config.hub_path, name).is_file() for name in files):
                raise
            return None  # all of them were deleted
        if added := sorted(here.keys() - files.keys()):
            return f"it lacks {here[added[0]]}"
        hashing = are_compared_by_hash(recorded)
        for name, file in files.items():
            path = Path(self.config.hub_path, name)
            if name not in here and path.is_file():
                return f"it holds {path} too"
            if name in here and (
                path.stat().st_size != file["bytes"] or (hashing and cached_sha256(path) != file["sha256"])
            ):
                return f"{path} has changed since"
        return None

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.config.hub_path)).as_posix() if self._is_folder else path.name

    def chunks(self) -> Iterator[Chunk]:
        """See ``Source.chunks``."""
        chunks = (chunk for path in self._fetch_files() for chunk in self._file_chunks(path))
        return chunks if self.config.document_start is None else self._joined(chunks, self.config.document_start)

    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """See ``Source.read``."""
        if chunk.content is not None and self.config.document_start is not None:
            yield from json.loads(chunk.content)
            return
        for row in self._read_rows(chunk):
            if isinstance(row, str) and self._delimiter is not None:
                yield from split_text(row, self._delimiter, self.config.min_document_bytes)
            else:
                yield row

    def _file_chunks(self, path: Path) -> Iterator[Chunk]:
        return line_chunks(path) if holds_lines(path) else row_chunks(path, self.config.text_column)

    def _read_rows(self, chunk: Chunk) -> Iterator[str | Problem]:
        """The rows of a chunk that ``_file_chunks`` made."""
        if holds_lines(Path(chunk.spans[0].path)):
            return read_lines(chunk, self.config.text_column)
        return self._rows.read(chunk)

    def _settings(self) -> dict[str, Any]:
        keys = ["text_column", "hub_path", "hub_subset", "hub_revision", "hub_split"]
        keys += ["document_start", "delimiter", "min_document_bytes"]
        values = {key: getattr(self.config, key) for key in keys}
        return {"source": self.name} | values | {"delimiter": self._delimiter}

    def _joined(self, chunks: Iterator[Chunk], document_start: str) -> Iterator[Chunk]:
        """Chunks that carry their documents, since a document may continue from one file to the next."""
        starts = re.compile(document_start)
        documents: list[list[str]] = [[]]
        size = 0
        for chunk in chunks:
            size += chunk.size
            for row in self._read_rows(chunk):
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

    def _fetch_files(self) -> Iterator[Path]:
        """The files on this machine, in order; while one is read, the next one is fetched."""
        self._fetched_files = []
        names = self._or_explain(self._file_names)
        with ThreadPoolExecutor(1) as thread:
            next_file = thread.submit(fetch_file, names[0])
            for name, next_name in zip(names, [*names[1:], None], strict=True):
                path: Path = self._or_explain(next_file.result)
                if next_name is not None:
                    next_file = thread.submit(fetch_file, next_name)
                self._fetched_files.append(
                    {"name": self._name(Path(name)), "bytes": path.stat().st_size, "sha256": cached_sha256(path)}
                )
                yield path

    def _file_names(self) -> list[str]:
        if self.config.hub_revision is None and not Path(self.config.hub_path).is_dir():
            raise self._without_a_commit(self.config)
        import datasets  # noqa: PLC0415

        builder = datasets.load_dataset_builder(
            self.config.hub_path, self.config.hub_subset, revision=self.config.hub_revision
        )
        files = builder.config.data_files or {}
        if self.config.hub_split not in files:
            raise UserError(f"data.hub_split={self.config.hub_split}: expected one of {', '.join(files) or 'none'}")
        names = list(files[self.config.hub_split])
        for name in names:
            if not holds_lines(Path(name)) and Path(name).suffix != ".parquet":
                raise UserError(
                    f"data.hub_path={self.config.hub_path}: {name} is of a kind that is not read; expected .parquet, "
                    ".jsonl, .jsonl.gz or .jsonl.zst; convert it, and type data=text_files or data=jsonl_files"
                )
        return names

    def _or_explain(self, fetch: Any) -> Any:
        instead = (
            "check the network and the name, or fetch its files yourself and type data=parquet_files data.files=[...], "
            "or data=jsonl_files"
        )
        return fetch_or_explain(f"data.hub_path={self.config.hub_path}", fetch, instead)


def holds_lines(path: Path) -> bool:
    """Whether a file has one JSON object per line, by its name."""
    return (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix in (".jsonl", ".json", ".ndjson")


def fetch_file(name: str) -> Path:
    """The path of a file on this machine, fetched from the Hub if necessary."""
    if not name.startswith("hf://"):
        return Path(name)
    from huggingface_hub import HfFileSystem, hf_hub_download  # noqa: PLC0415

    file: Any = HfFileSystem().resolve_path(name)
    return Path(hf_hub_download(file.repo_id, file.path_in_repo, repo_type="dataset", revision=file.revision))


def cached_sha256(path: Path) -> str | None:
    """SHA-256 of a file: the name of a large file in the Hub's cache, else computed; None for a huge local file."""
    cached_name = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", cached_name):
        return cached_name
    return file_sha256(path) if path.stat().st_size < HASH_LIMIT_BYTES else None


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
    """Documents, each a list of rows, as ``Chunk.content``."""
    return json.dumps(["".join(rows) for rows in documents]).encode()
