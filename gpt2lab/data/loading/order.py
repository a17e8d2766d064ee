"""A pseudo-random permutation that gives any element at once: (seed, epoch, index) -> index."""

import functools
import hashlib

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6
"""of the Feistel network; with good round functions, 4 give a pseudo-random permutation (Luby and Rackoff 1988)"""


@functools.lru_cache(maxsize=64)
def round_keys(seed: int | str, epoch: int) -> NDArray[np.uint64]:
    """The keys of the permutation of one epoch, uint64 [ROUNDS]; unrelated for another seed or epoch."""
    digests = (hashlib.sha256(f"order {seed} {epoch} {i}".encode()).digest() for i in range(ROUNDS))
    return np.array([int.from_bytes(digest[:8], "little") for digest in digests], dtype=np.uint64)


def permute(index_N: NDArray[np.int64], length: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The image of ``index_N`` (int64, each in range(length)) under a pseudo-random permutation of range(length).

    A Feistel network (Black and Rogaway 2002, section 5) permutes the smallest domain of an even number of bits that
    contains ``range(length)``. Values outside ``range(length)`` pass through it again until they are inside (cycle
    walking, section 3); the domain is less than four times as large. A stored permutation would take 8 bytes per
    sequence in every process, take time at the start of each epoch, and depend on the library that shuffled it.
    """
    half_bits = max(1, ((length - 1).bit_length() + 1) // 2)
    low_bits = np.uint64(2**half_bits - 1)
    shift = np.uint64(half_bits)

    def network(value_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left_N, right_N = value_N >> shift, value_N & low_bits
        for key in keys:
            left_N, right_N = right_N, left_N ^ (mix(right_N ^ key) & low_bits)
        return left_N << shift | right_N

    value_N = network(index_N.astype(np.uint64))
    while (outside_N := value_N >= np.uint64(length)).any():
        value_N[outside_N] = network(value_N[outside_N])
    return value_N.astype(np.int64)


def mix(value_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of 64-bit integers in which each input bit affects each output bit (SplitMix64's finalizer)."""
    value_N = (value_N ^ (value_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value_N = (value_N ^ (value_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed_N: NDArray[np.uint64] = value_N ^ (value_N >> np.uint64(31))
    return mixed_N
