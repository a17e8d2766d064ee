"""The shards of a split as one long, memory-mapped token stream."""

import bisect
import itertools
from pathlib import Path

import numpy as np

from gpt2lab.data.manifest import Manifest


class TokenStream:
    """One split of a prepared dataset as a single long array, memory-mapped: only pages that are read take memory."""

    def __init__(self, folder: Path, manifest: Manifest, split: str) -> None:
        shards = manifest.splits[split].shards
        self.split = split
        self.folder = folder
        self.eot_id = manifest.eot_id
        self._starts_files = [folder / shard.starts_file for shard in shards]
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

    def starts(self) -> np.ndarray:
        """Where documents begin, int64 [documents]; takes 8 bytes per document."""
        firsts = [0, *self._ends[:-1]]
        return np.concatenate([np.load(file) + first for file, first in zip(self._starts_files, firsts, strict=True)])
