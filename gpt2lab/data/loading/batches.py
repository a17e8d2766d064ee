"""Batches: (seed, step) -> numbers of sequences -> dataset, epoch and sequence by permutations -> inputs and targets.

Training takes every sequence of a split once per epoch, in an order that is a function of (seed, epoch). Validation
takes a fixed selection. Nothing is stored: the state of the data is the number of the step.

Shapes: B sequences, T tokens per sequence, K = BLOCK places of a block.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import UserError
from gpt2lab.data.loading.order import permute, round_keys
from gpt2lab.data.loading.sequences import Batch, Sequences, document_begins, with_layout

BLOCK = 1_000
"""Consecutive sequences within which a mixture keeps its shares exactly; a share is a multiple of 1/1,000"""

ORDERED_AT_ONCE = 2_048
"""Sequences whose numbers are computed together, of a split that has so many"""


class _Ordered(NamedTuple):
    """The order of some batches, of all ranks."""

    first: int
    """step of the first batch"""
    dataset_N: NDArray[np.int64]
    sequence_N: NDArray[np.int64]


class TrainBatches:
    """The training batches of one dataset, or of several in given shares: batch k is a function of (seed, k) only.

    In a mixture, every ``BLOCK`` sequences contain the exact share of each dataset, at positions that are a function of
    the seed. Each dataset passes through its own sequences without replacement, and restarts when they are used up, in
    another order.

    Args:
        datasets: the sequences of each dataset.
        batch_size: sequences per batch, over all ranks.
        seed: of the order.
        shares: sequences out of every ``BLOCK`` that each dataset gives; they add up to it. Not needed for one dataset.
        document_masking: whether batches tell documents apart (``Batch.segment_BT``, ``Batch.pos_BT``).
        random_lengths: whether each sequence is cut into texts of random length, which are told apart like documents.
        rank, world_size: this process reads the sequences rank, rank + world_size, ... of each batch.

    Raises:
        UserError: the sequences of a batch cannot be divided evenly among the processes.
    """

    def __init__(
        self,
        datasets: Sequence[Sequences],
        batch_size: int,
        seed: int,
        *,
        shares: Sequence[int] = (BLOCK,),
        document_masking: bool = False,
        random_lengths: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert len(shares) == len(datasets)
        assert sum(shares) == BLOCK
        self.datasets = list(datasets)
        if batch_size % world_size:
            raise UserError(
                f"training.batch_tokens={batch_size * self.sequence_length}: {world_size} processes cannot share its "
                f"{batch_size} sequences evenly; expected a multiple of {world_size} sequences: try "
                f"training.batch_tokens={-(-batch_size // world_size) * world_size * self.sequence_length}"
            )
        self.batch_size = batch_size
        self.seed = seed
        self._shares = tuple(shares)
        self._document_masking = document_masking
        self._random_lengths = random_lengths
        self._rank, self._world_size = rank, world_size
        self._steps_at_once = max(1, min(ORDERED_AT_ONCE, self.num_sequences) // batch_size)
        self._ordered = _Ordered(-1, np.empty(0, np.int64), np.empty(0, np.int64))

    @property
    def sequence_length(self) -> int:
        """Tokens per sequence."""
        return self.datasets[0].sequence_length

    @property
    def num_sequences(self) -> int:
        """Sequences per epoch, of all datasets together."""
        return sum(map(len, self.datasets))

    @property
    def num_tokens(self) -> int:
        """Tokens of all datasets."""
        return sum(len(sequences.stream) for sequences in self.datasets)

    @property
    def dropped_tokens(self) -> int:
        """Tokens of all datasets that are in no sequence."""
        return sum(sequences.dropped_tokens for sequences in self.datasets)

    def sequence_numbers(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Dataset of each sequence of batch ``step`` that this rank reads, and its number there: both int64 [B]."""
        first = step // self._steps_at_once * self._steps_at_once
        ordered = self._ordered  # read once: another thread may replace it
        if ordered.first != first:
            # a permutation of a few numbers takes as long as one of thousands
            ordered = self._ordered = _Ordered(first, *self._order(first))
        begin, end = (step - first) * self.batch_size, (step - first + 1) * self.batch_size
        rows = slice(begin + self._rank, end, self._world_size)
        return ordered.dataset_N[rows], ordered.sequence_N[rows]

    def _order(self, first: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Dataset and number of each sequence of the batches from ``first`` on, of all ranks, for some batches."""
        position_B = first * self.batch_size + np.arange(self._steps_at_once * self.batch_size, dtype=np.int64)
        dataset_B, index_B = np.zeros_like(position_B), position_B
        if len(self.datasets) > 1:
            dataset_B, index_B = self._deal(position_B)
        sequence_B = np.empty_like(index_B)
        for number, sequences in enumerate(self.datasets):
            order_seed = str(self.seed) if len(self.datasets) == 1 else f"{self.seed} set {number}"
            epoch_B = index_B // len(sequences)
            for epoch in np.unique(epoch_B[dataset_B == number]).tolist():
                chosen_B = (dataset_B == number) & (epoch_B == epoch)
                index_in_epoch_N = index_B[chosen_B] % len(sequences)
                sequence_B[chosen_B] = permute(index_in_epoch_N, len(sequences), round_keys(order_seed, epoch))
        return dataset_B, sequence_B

    def batch(self, step: int) -> Batch:
        """Batch ``step`` (from 0), or the part of it that this rank reads: int64 [B, T]."""
        dataset_B, sequence_B = self.sequence_numbers(step)
        if len(self.datasets) == 1:
            batch = self.datasets[0].read(sequence_B)
        else:
            parts = [self.datasets[number].read(sequence_B[i : i + 1]) for i, number in enumerate(dataset_B.tolist())]
            batch = Batch(
                np.concatenate([part.inputs_BT for part in parts]), np.concatenate([part.targets_BT for part in parts])
            )
        if not (self._document_masking or self._random_lengths):
            return batch
        begins_BT = np.zeros(batch.inputs_BT.shape, dtype=bool)
        if self._document_masking:
            begins_BT |= document_begins(batch, self.datasets[0].stream.eot_id)
        if self._random_lengths:
            begins_BT |= self._random_begins(step)
        return with_layout(batch, begins_BT)

    def _random_begins(self, step: int) -> NDArray[np.bool_]:
        """Where texts of random length begin, [B, T]: lengths uniform on 1 to T, until the sequence is full."""
        T = self.sequence_length
        rows = range(step * self.batch_size + self._rank, (step + 1) * self.batch_size, self._world_size)
        begins_BT = np.zeros((len(rows), T), dtype=bool)
        for begins_T, position in zip(begins_BT, rows, strict=True):
            random = np.random.default_rng(round_keys(f"{self.seed} lengths", position))
            ends = np.cumsum(random.integers(1, T + 1, size=T))
            begins_T[ends[ends < T]] = True
        return begins_BT

    def _deal(self, position_B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The dataset of each position of the run, and how many sequences of that dataset come before it."""
        block_B, place_B = np.divmod(position_B, BLOCK)
        dataset_B, before_B = np.empty_like(position_B), np.empty_like(position_B)
        for block in np.unique(block_B).tolist():
            in_block_B = block_B == block
            places = deal_block(str(self.seed), block, self._shares)
            dataset_B[in_block_B] = places.dataset_K[place_B[in_block_B]]
            before_B[in_block_B] = places.before_K[place_B[in_block_B]]
        return dataset_B, block_B * np.array(self._shares)[dataset_B] + before_B


class _Places(NamedTuple):
    """What stands at each of the ``BLOCK`` places of a block of a mixture."""

    dataset_K: NDArray[np.int64]
    before_K: NDArray[np.int64]
    """places of the same dataset that come before it in the block"""


@functools.lru_cache(maxsize=16)
def deal_block(seed: str, block: int, shares: tuple[int, ...]) -> _Places:
    """The places of one block: each dataset has its share of them, at random."""
    slot_K = permute(np.arange(BLOCK, dtype=np.int64), BLOCK, round_keys(f"{seed} mixture", block))
    dataset_K = np.searchsorted(np.cumsum(shares), slot_K, side="right")
    before_K = np.empty_like(slot_K)
    for number, share in enumerate(shares):
        before_K[dataset_K == number] = np.arange(share)
    return _Places(dataset_K, before_K)


class ValidationBatches:
    """The validation sequences: all of the split if ``max_tokens`` hold them, else a fixed selection, evenly spread.

    Raises:
        UserError: ``max_tokens`` is shorter than one sequence.
    """

    def __init__(self, sequences: Sequences, max_tokens: int, *, document_masking: bool = False) -> None:
        self.sequences = sequences
        self._document_masking = document_masking
        count = min(len(sequences), max_tokens // sequences.sequence_length)
        if count == 0:
            raise UserError(
                f"training.eval_tokens={max_tokens}: expected at least one sequence of {sequences.sequence_length} "
                f"tokens: type training.eval_tokens={sequences.sequence_length}"
            )
        self.sequence_ids = np.arange(count, dtype=np.int64) * len(sequences) // count

    def __len__(self) -> int:
        return len(self.sequence_ids)

    def batch(self, first: int, last: int) -> Batch:
        """The sequences [first, last) of the selection, int64 [last - first, T]; the last batch may be shorter."""
        batch = self.sequences.read(self.sequence_ids[first:last])
        if not self._document_masking:
            return batch
        return with_layout(batch, document_begins(batch, self.sequences.stream.eot_id))
