"""The order: (seed, step) -> sequence numbers -> epoch and window by a permutation -> inputs and targets.

A stream of tokens is cut into windows of T + 1 tokens that overlap by one, so that each token is an input once and a
target once. Training takes every window once an epoch in an order that is a function of (seed, epoch); validation
takes a fixed set. Nothing is stored: the state of the data is the number of the step.

Shapes: B sequences, T tokens a sequence, N indices.
"""

import hashlib

import numpy as np

from gpt2lab.config import UserError
from gpt2lab.data.stream import TokenStream

ROUNDS = 6
"""of the Feistel network; 4 already make it a pseudo-random permutation (Luby and Rackoff 1988), given good rounds"""


def round_keys(seed: int, epoch: int) -> np.ndarray:
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
    """The training batches of a split: batch k is a function of (seed, k) and of nothing else.

    Raises:
        UserError: the split is shorter than one window.
    """

    def __init__(self, stream: TokenStream, batch_size: int, sequence_length: int, seed: int) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self.seed = seed
        self.num_windows = count_windows(stream, sequence_length)

    @property
    def dropped_tokens(self) -> int:
        """Tokens at the end of the split that fill no window, fewer than ``sequence_length``."""
        return len(self.stream) - 1 - self.num_windows * self.sequence_length

    def window_ids(self, step: int) -> np.ndarray:
        """The windows of batch ``step`` (from 0), int64 [B]; an epoch may end within a batch."""
        sequence_B = step * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        epoch_B, index_B = np.divmod(sequence_B, self.num_windows)
        window_B = np.empty_like(index_B)
        for epoch in range(epoch_B[0], epoch_B[-1] + 1):
            here_B = epoch_B == epoch
            window_B[here_B] = permute(index_B[here_B], self.num_windows, round_keys(self.seed, epoch))
        return window_B

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of batch ``step`` (from 0), both int64 [B, T]."""
        return read_windows(self.stream, self.window_ids(step), self.sequence_length)


class ValWindows:
    """The validation windows: all of the split if they fit into ``max_tokens``, else a fixed set spread evenly over it.

    Raises:
        UserError: the split is shorter than one window, or ``max_tokens`` is.
    """

    def __init__(self, stream: TokenStream, sequence_length: int, max_tokens: int) -> None:
        self.stream = stream
        self.sequence_length = sequence_length
        available = count_windows(stream, sequence_length)
        count = min(available, max_tokens // sequence_length)
        if count == 0:
            raise UserError(
                f"training.eval_tokens={max_tokens}: expected at least one sequence of {sequence_length} tokens: "
                f"type training.eval_tokens={sequence_length}"
            )
        self.window_ids = np.arange(count, dtype=np.int64) * available // count

    def __len__(self) -> int:
        return len(self.window_ids)

    def batch(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of the windows [first, last), both int64 [last - first, T]; the last may be cut off."""
        return read_windows(self.stream, self.window_ids[first:last], self.sequence_length)


def count_windows(stream: TokenStream, sequence_length: int) -> int:
    """Whole windows in a split; a ``UserError`` if there is none."""
    windows = (len(stream) - 1) // sequence_length
    if windows < 1:
        raise UserError(
            f"the {stream.split} split has {len(stream)} tokens, expected at least {sequence_length + 1} for one "
            f"sequence of training.sequence_length={sequence_length}: shorten the sequence, or prepare more text"
        )
    return windows


def read_windows(stream: TokenStream, window_B: np.ndarray, sequence_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, the tokens one further on, of windows: both int64 [B, T]."""
    inputs_BT = np.empty((len(window_B), sequence_length), dtype=np.int64)
    targets_BT = np.empty_like(inputs_BT)
    for row, window in enumerate(window_B.tolist()):
        start = window * sequence_length
        tokens = stream.read(start, start + sequence_length + 1)
        inputs_BT[row], targets_BT[row] = tokens[:-1], tokens[1:]
    return inputs_BT, targets_BT
