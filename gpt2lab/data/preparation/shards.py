"""Writes tokenized documents to .npy shards, with a state to resume from after a kill.

Legend: N = tokens of a batch of documents, D = its documents, V = ids of the vocabulary.
"""

import dataclasses
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from gpt2lab.data.manifest import STARTS_DTYPE, Shard, Split, TextTokenizer, entropy, token_dtype
from gpt2lab.files import file_sha256, sync


class ShardWriter:
    """Writes one split: ``<split>_000000.npy``, ... of ``shard_tokens`` tokens each, and their document starts.

    Tokens are written as they come, so that memory does not grow with the size of a shard. A context manager: leaving
    it closes the files that an error left open.
    """

    def __init__(self, folder: Path, split: str, tokenizer: TextTokenizer, shard_tokens: int) -> None:
        self.documents = 0
        self.tokens = 0
        self._text_bytes = 0
        self._counts_V = np.zeros(tokenizer.vocab_size, dtype=np.int64)
        self._shards: list[Shard] = []
        self._folder = folder
        self._split = split
        self._dtype = token_dtype(tokenizer.vocab_size)
        self._shard_tokens = shard_tokens
        self._files: tuple[NpyWriter, NpyWriter] | None = None
        """tokens and starts of the unfinished shard"""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files or ():
            file.close()

    def add(self, tokens_N: NDArray[np.unsignedinteger], lengths_D: NDArray[np.int64], text_bytes: int) -> None:
        """Append documents that each begin with end-of-text; ``text_bytes`` is the length of their text in UTF-8."""
        self._counts_V += np.bincount(tokens_N, minlength=len(self._counts_V))
        starts_D = np.cumsum(lengths_D) - lengths_D
        self.documents += len(lengths_D)
        self.tokens += len(tokens_N)
        self._text_bytes += text_bytes
        position = 0
        while position < len(tokens_N):
            tokens, starts = self._files = self._files or self._open(0, 0)
            end = min(len(tokens_N), position + self._shard_tokens - tokens.length)
            starts_here = starts_D[(starts_D >= position) & (starts_D < end)]
            starts.append(starts_here - position + tokens.length)
            tokens.append(tokens_N[position:end])
            position = end
            if tokens.length == self._shard_tokens:
                self._finish_shard()

    def finish(self) -> Split:
        """Finish the last shard; everything is on the disk when this returns."""
        if self._files:
            self._finish_shard()
        return Split(
            tokens=self.tokens,
            documents=self.documents,
            bytes=self._text_bytes,
            unigram_entropy=entropy(self._counts_V / self.tokens),
            shards=tuple(self._shards),
        )

    def state(self) -> dict[str, Any]:
        """Plain values to resume from; the tokens that they count are on the disk when this returns."""
        for file in self._files or ():
            file.sync()
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "text_bytes": self._text_bytes,
            "counts": self._counts_V.tolist(),
            "shards": [dataclasses.asdict(shard) for shard in self._shards],
            "lengths": [file.length for file in self._files] if self._files else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from ``state()`` of a writer of the same folder; later tokens are truncated or overwritten."""
        self.documents, self.tokens, self._text_bytes = state["documents"], state["tokens"], state["text_bytes"]
        self._counts_V = np.array(state["counts"], dtype=np.int64)
        self._shards = [Shard(**shard) for shard in state["shards"]]
        self._files = self._open(*state["lengths"]) if state["lengths"] else None

    def _open(self, tokens: int, starts: int) -> tuple["NpyWriter", "NpyWriter"]:
        name = f"{self._split}_{len(self._shards):06d}"
        return (
            NpyWriter(self._folder / f"{name}.npy", self._dtype, tokens),
            NpyWriter(self._folder / f"{name}.starts.npy", STARTS_DTYPE, starts),
        )

    def _finish_shard(self) -> None:
        assert self._files
        tokens, starts = self._files
        for file in self._files:
            file.finish()
        shard = Shard(
            file=tokens.path.name,
            tokens=tokens.length,
            sha256=file_sha256(tokens.path),
            starts_file=starts.path.name,
            documents=starts.length,
            starts_sha256=file_sha256(starts.path),
        )
        self._shards.append(shard)
        self._files = None


class NpyWriter:
    """A 1-D .npy file that grows at its end. A ``length`` above 0 opens an existing file and truncates it to that."""

    def __init__(self, path: Path, dtype: np.dtype[Any], length: int) -> None:
        self.path = path
        self.length = length
        self._dtype = dtype
        self._file: IO[bytes] = path.open("r+b" if length else "wb")
        self._write_header()
        self._file.truncate(self._file.tell() + length * dtype.itemsize)
        self._file.seek(0, 2)

    def append(self, items: NDArray[np.integer]) -> None:
        """Append items."""
        self._file.write(items.astype(self._dtype, copy=False).tobytes())
        self.length += len(items)

    def sync(self) -> None:
        """Flush the file to the disk."""
        sync(self._file)

    def finish(self) -> None:
        """Write the final length into the header, flush the file to the disk and close it."""
        self._file.seek(0)
        self._write_header()
        self.sync()
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write_header(self) -> None:
        # NumPy pads the header, so that its size is the same for every length
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, header)
