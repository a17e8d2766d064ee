"""Token ids of documents -> .npy shards and document starts -> one long, memory-mapped token stream.

Shapes: N tokens of a batch of documents, V ids of the vocabulary.
"""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from gpt2lab.data.manifest import STARTS_DTYPE, Manifest, Shard, Split, TextTokenizer, token_dtype
from gpt2lab.files import file_sha256, sync


class ShardWriter:
    """Writes one split: ``<split>_000000.npy``, ... of ``shard_tokens`` tokens each, and their document starts.

    Tokens go to disk as they come, so that memory does not grow with the size of a shard. A context manager: leaving
    it closes the file that an error left open.
    """

    def __init__(self, folder: Path, split: str, tokenizer: TextTokenizer, shard_tokens: int) -> None:
        self.documents = 0
        self._text_bytes = 0
        self._counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
        self._shards: list[Shard] = []
        self._folder = folder
        self._split = split
        self._eot_id = tokenizer.eot_id
        self._dtype = token_dtype(tokenizer.vocab_size)
        self._shard_tokens = shard_tokens
        self._file: IO[bytes] | None = None
        self._file_tokens = 0
        self._file_starts: list[np.ndarray] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, documents: Sequence[list[int]], text_bytes: int) -> None:
        """Append documents, given as token ids, with end-of-text before each; ``text_bytes`` is their text's length."""
        tokens_N = np.array([token for ids in documents for token in (self._eot_id, *ids)], dtype=np.int64)
        counts_V = np.bincount(tokens_N, minlength=len(self._counts))
        assert len(counts_V) == len(self._counts), f"token id {len(counts_V) - 1} is outside the vocabulary"
        starts = np.cumsum([0] + [1 + len(ids) for ids in documents])[:-1]
        self.documents += len(documents)
        self._text_bytes += text_bytes
        self._counts += counts_V
        position = 0
        while position < len(tokens_N):
            if self._file is None:
                self._file = self._path(".npy").open("wb")
                write_npy_header(self._file, self._dtype, 0)
            end = min(len(tokens_N), position + self._shard_tokens - self._file_tokens)
            self._file.write(tokens_N[position:end].astype(self._dtype).tobytes())
            starts_here = starts[(starts >= position) & (starts < end)]
            self._file_starts.append(starts_here - position + self._file_tokens)
            self._file_tokens += end - position
            position = end
            if self._file_tokens == self._shard_tokens:
                self._finish_shard(self._file)

    def finish(self) -> Split:
        """Finish the last shard; everything is on the disk when this returns."""
        if self._file is not None:
            self._finish_shard(self._file)
        tokens = int(self._counts.sum())
        frequencies = self._counts[self._counts > 0] / tokens
        return Split(
            tokens=tokens,
            documents=self.documents,
            bytes=self._text_bytes,
            unigram_entropy=float(-(frequencies * np.log(frequencies)).sum()),
            shards=tuple(self._shards),
        )

    def _path(self, suffix: str) -> Path:
        return self._folder / f"{self._split}_{len(self._shards):06d}{suffix}"

    def _finish_shard(self, file: IO[bytes]) -> None:
        starts = np.concatenate(self._file_starts)
        tokens_path, starts_path = self._path(".npy"), self._path(".starts.npy")
        file.seek(0)
        write_npy_header(file, self._dtype, self._file_tokens)
        sync(file)
        file.close()
        with starts_path.open("wb") as starts_file:
            np.save(starts_file, starts.astype(STARTS_DTYPE))
            sync(starts_file)
        shard = Shard(
            file=tokens_path.name,
            tokens=self._file_tokens,
            sha256=file_sha256(tokens_path),
            starts_file=starts_path.name,
            documents=len(starts),
            starts_sha256=file_sha256(starts_path),
        )
        self._shards.append(shard)
        self._file, self._file_tokens, self._file_starts = None, 0, []


def write_npy_header(file: IO[bytes], dtype: np.dtype[Any], length: int) -> None:
    """The header of a 1-D .npy file; NumPy pads it so that every length takes the same room."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)


class TokenStream:
    """One split of a prepared set as a single long array, memory-mapped: only the pages that are read take memory."""

    def __init__(self, folder: Path, manifest: Manifest, split: str) -> None:
        shards = manifest.splits[split].shards
        self.split = split
        self._shards = [np.asarray(np.load(folder / shard.file, mmap_mode="r")) for shard in shards]
        self._ends = list(itertools.accumulate(len(shard) for shard in self._shards))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop), uint16 or uint32; a read-only view unless the range crosses a shard border."""
        assert 0 <= start <= stop <= len(self), f"[{start}, {stop}) is outside the {len(self)} tokens of {self.split}"
        parts = []
        first = min(bisect.bisect_right(self._ends, start), len(self._ends) - 1)
        for shard, end in zip(self._shards[first:], self._ends[first:], strict=True):
            offset = end - len(shard)
            parts.append(shard[max(0, start - offset) : stop - offset])
            if stop <= end:
                break
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
