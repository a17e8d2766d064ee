"""The order: (seed, step) -> sequence numbers -> set, epoch and row by permutations -> inputs and targets.

Training takes every row of a split (``rows.py``) once an epoch in an order that is a function of (seed, epoch);
validation takes a fixed set. Nothing is stored: the state of the data is the number of the step.

Shapes: B sequences, T tokens a sequence, N indices.
"""

import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from gpt2lab.config import UserError
from gpt2lab.data.loading.sequences import Batch, Sequences, with_layout

BLOCK = 1_000
"""Sequences in which the shares of a mixture are kept exactly; a share is a multiple of 1/1,000"""

ROUNDS = 6
"""of the Feistel network; 4 already make it a pseudo-random permutation (Luby and Rackoff 1988), given good rounds"""


@functools.lru_cache(maxsize=64)
def round_keys(seed: int | str, epoch: int) -> np.ndarray:
    """The keys of the order of one epoch, uint64 [ROUNDS]; another seed or epoch gives unrelated ones."""
    digests = (hashlib.sha256(f"order {seed} {epoch} {i}".encode()).digest() for i in range(ROUNDS))
    return np.array([int.from_bytes(digest[:8], "little") for digest in digests], dtype=np.uint64)


def permute(index_N: np.ndarray, length: int, keys: np.ndarray) -> np.ndarray:
    """Where ``index_N`` (int64, each in range(length)) goes under a pseudo-random permutation of range(length).

    A Feistel network (Black and Rogaway 2002, section 5) on the smallest domain of an even number of bits that holds
    ``length``, less than four times as large; what falls outside ``range(length)`` goes through it again until it does
    not (cycle walking, section 3). A stored permutation would take 8 bytes a window on every process, time at the
    start of each epoch, and depend on the version of the library that shuffled it; this takes any index at once.
    """
    half_bits = max(1, ((length - 1).bit_length() + 1) // 2)
    low_bits = np.uint64(2**half_bits - 1)
    shift = np.uint64(half_bits)

    def network(value_N: np.ndarray) -> np.ndarray:
        left_N, right_N = value_N >> shift, value_N & low_bits
        for key in keys:
            left_N, right_N = right_N, left_N ^ (mix(right_N ^ key) & low_bits)
        return left_N << shift | right_N

    value_N = network(index_N.astype(np.uint64))
    while (outside_N := value_N >= np.uint64(length)).any():
        value_N[outside_N] = network(value_N[outside_N])
    return value_N.astype(np.int64)


def mix(value_N: np.ndarray) -> np.ndarray:
    """A hash of 64-bit integers: each bit of the input moves each bit of the output (SplitMix64's finaliser)."""
    value_N = (value_N ^ (value_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value_N = (value_N ^ (value_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed_N: np.ndarray = value_N ^ (value_N >> np.uint64(31))
    return mixed_N


class TrainBatches:
    """The training batches of one set, or of several in given shares: batch k is a function of (seed, k) alone.

    In a mixture, every ``BLOCK`` sequences hold each set's share exactly, at places that are a function of the seed;
    each set goes through its own rows without replacement, and begins again when they are used up.

    Args:
        sets: the rows of each set.
        batch_size: sequences of a batch, over all ranks.
        seed: of the order.
        shares: sequences out of every ``BLOCK`` that each set gives; they add up to it. Not needed for one set.
        document_masking: whether batches tell documents apart (``Batch.segment_BT``, ``Batch.pos_BT``).
        rank, world_size: this process gives the sequences rank, rank + world_size, ... of each batch.
    """

    def __init__(
        self,
        sets: Sequence[Sequences],
        batch_size: int,
        seed: int,
        *,
        shares: Sequence[int] = (BLOCK,),
        document_masking: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert len(shares) == len(sets)
        assert sum(shares) == BLOCK
        self.sets = list(sets)
        if batch_size % world_size:
            raise UserError(
                f"training.batch_tokens={batch_size * self.sequence_length}: its {batch_size} sequences cannot be "
                f"dealt out evenly to {world_size} processes: give a multiple of {world_size} sequences"
            )
        self.batch_size = batch_size
        self.seed = seed
        self._share_ends = np.cumsum(shares)
        self._document_masking = document_masking
        self._rank, self._world_size = rank, world_size

    @property
    def sequence_length(self) -> int:
        """Tokens of a sequence."""
        return self.sets[0].sequence_length

    @property
    def num_sequences(self) -> int:
        """Sequences of an epoch: of all sets together."""
        return sum(map(len, self.sets))

    @property
    def num_tokens(self) -> int:
        """Tokens of all sets."""
        return sum(len(rows.stream) for rows in self.sets)

    @property
    def dropped_tokens(self) -> int:
        """Tokens of all sets that are in no sequence."""
        return sum(rows.dropped_tokens for rows in self.sets)

    def rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Set and row of each sequence of batch ``step`` (from 0) that is this rank's: both int64 [B]."""
        sequence_B = step * self.batch_size + np.arange(self._rank, self.batch_size, self._world_size, dtype=np.int64)
        set_B, index_B = np.zeros_like(sequence_B), sequence_B
        if len(self.sets) > 1:
            set_B, index_B = self._deal(sequence_B)
        row_B = np.empty_like(index_B)
        for number, rows in enumerate(self.sets):
            stream = str(self.seed) if len(self.sets) == 1 else f"{self.seed} set {number}"
            for epoch in np.unique(index_B[set_B == number] // len(rows)).tolist():
                here_B = (set_B == number) & (index_B // len(rows) == epoch)
                row_B[here_B] = permute(index_B[here_B] % len(rows), len(rows), round_keys(stream, epoch))
        return set_B, row_B

    def batch(self, step: int) -> Batch:
        """Batch ``step`` (from 0), or this rank's part of it: int64 [B, T]."""
        set_B, row_B = self.rows(step)
        if len(self.sets) == 1:
            batch = self.sets[0].read(row_B)
        else:
            read = [self.sets[number].read(row_B[i : i + 1]) for i, number in enumerate(set_B.tolist())]
            batch = Batch(*(np.concatenate([one[field] for one in read]) for field in (0, 1)))
        return with_layout(batch, self.sets[0].stream.eot_id) if self._document_masking else batch

    def _deal(self, sequence_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The set of each sequence, and its number among the sequences of that set."""
        block_B, slot_B = np.divmod(sequence_B, BLOCK)
        for block in np.unique(block_B).tolist():
            here_B = block_B == block
            slot_B[here_B] = permute(slot_B[here_B], BLOCK, round_keys(f"{self.seed} mixture", block))
        set_B = np.searchsorted(self._share_ends, slot_B, side="right")
        begins = np.concatenate([[0], self._share_ends[:-1]])
        return set_B, block_B * np.diff(self._share_ends, prepend=0)[set_B] + slot_B - begins[set_B]


class ValidationBatches:
    """The validation rows: all of the split if they fit into ``max_tokens``, else a fixed set spread evenly over it.

    Raises:
        UserError: ``max_tokens`` is shorter than one row.
    """

    def __init__(self, rows: Sequences, max_tokens: int, *, document_masking: bool = False) -> None:
        self.rows = rows
        self._document_masking = document_masking
        count = min(len(rows), max_tokens // rows.sequence_length)
        if count == 0:
            raise UserError(
                f"training.eval_tokens={max_tokens}: expected at least one sequence of {rows.sequence_length} tokens: "
                f"type training.eval_tokens={rows.sequence_length}"
            )
        self.sequence_ids = np.arange(count, dtype=np.int64) * len(rows) // count

    def __len__(self) -> int:
        return len(self.sequence_ids)

    def batch(self, first: int, last: int) -> Batch:
        """The rows [first, last) of the set, int64 [last - first, T]; the last batch may be cut off."""
        batch = self.rows.read(self.sequence_ids[first:last])
        return with_layout(batch, self.rows.stream.eot_id) if self._document_masking else batch
