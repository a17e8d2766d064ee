"""gpt2lab.data.batches: permutations counted out, windows against plain slices of the text."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from gpt2lab.config import UserError
from gpt2lab.data.batches import TrainBatches, ValWindows, permute, round_keys


class Counting:
    """A stream in which token i is i, so that a token tells its place."""

    split = "train"

    def __init__(self, length):
        self.tokens = np.arange(length, dtype=np.uint32)

    def __len__(self):
        return len(self.tokens)

    def read(self, start, stop):
        assert 0 <= start <= stop <= len(self)
        return self.tokens[start:stop]


@pytest.mark.parametrize("length", [*range(1, 40), 255, 256, 257, 1000, 4095, 4096, 4097, 65_537, 300_000])
def test_permute_is_a_permutation(length):
    for epoch in range(3):
        places = permute(np.arange(length), length, round_keys(7, epoch))
        assert places.dtype == np.int64
        assert np.array_equal(np.sort(places), np.arange(length))


@pytest.mark.parametrize("length", [5, 1000, 2**33 + 12345, 2**45 + 1])
def test_permute_takes_any_indices_at_once(length):
    keys = round_keys(0, 0)
    indices = np.array([length - 1, 0, length // 2, 3])
    together = permute(indices, length, keys)
    assert together.tolist() == [permute(np.array([index]), length, keys)[0] for index in indices]
    assert ((together >= 0) & (together < length)).all()
    assert len(set(together.tolist())) == len(set(indices.tolist()))


def test_every_order_of_four_comes_up_about_as_often():
    trials = 2_400
    orders = Counter(tuple(permute(np.arange(4), 4, round_keys(seed, 0)).tolist()) for seed in range(trials))
    assert set(orders) == set(itertools.permutations(range(4)))
    expected = trials / math.factorial(4)
    assert max(abs(count - expected) for count in orders.values()) < 6 * math.sqrt(expected)


def test_every_place_is_about_as_likely():
    length, epochs = 10, 1_000
    counts = np.zeros((length, length))
    for epoch in range(epochs):
        counts[np.arange(length), permute(np.arange(length), length, round_keys(3, epoch))] += 1
    assert np.abs(counts - epochs / length).max() < 6 * math.sqrt(epochs / length)


def test_neighbours_are_torn_apart():
    places = permute(np.arange(100_000), 100_000, round_keys(0, 0))
    # In a random order one neighbour in 100,000 stays next to it, so a handful in all.
    assert (np.abs(np.diff(places)) == 1).sum() < 15
    assert abs(np.corrcoef(np.arange(100_000), places)[0, 1]) < 0.02


def test_orders_differ_by_epoch_and_by_seed():
    orders = [
        tuple(permute(np.arange(50), 50, round_keys(*key)))
        for key in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 11), (11, 1))
    ]
    assert len(set(orders)) == 6


def test_targets_are_the_next_tokens_of_the_window():
    batches = TrainBatches(Counting(100), batch_size=4, sequence_length=7, seed=1)
    inputs, targets = batches.batch(2)
    assert (inputs.shape, inputs.dtype, targets.shape, targets.dtype) == ((4, 7), np.int64, (4, 7), np.int64)
    for row, window in enumerate(batches.window_ids(2)):
        assert inputs[row].tolist() == list(range(window * 7, window * 7 + 7))
        assert targets[row].tolist() == list(range(window * 7 + 1, window * 7 + 8))


@pytest.mark.parametrize(
    ("tokens", "windows", "dropped"), [(100, 14, 1), (99, 14, 0), (98, 13, 6), (8, 1, 0), (14, 1, 6)]
)
def test_windows_and_dropped_tokens(tokens, windows, dropped):
    batches = TrainBatches(Counting(tokens), batch_size=1, sequence_length=7, seed=0)
    assert (batches.num_windows, batches.dropped_tokens) == (windows, dropped)
    seen = {int(token) for step in range(windows) for rows in batches.batch(step) for token in rows.ravel()}
    assert len(seen) == tokens - dropped


@pytest.mark.parametrize("batch_size", [1, 3, 8, 40])
def test_each_window_once_an_epoch_also_when_batches_straddle_it(batch_size):
    batches = TrainBatches(Counting(92), batch_size, sequence_length=7, seed=5)
    assert batches.num_windows == 13
    order = np.concatenate([batches.window_ids(step) for step in range(13 * 4)])
    epochs = order[: len(order) // 13 * 13].reshape(-1, 13)
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == len(epochs)


def test_the_order_of_sequences_does_not_depend_on_the_batch_size():
    orders = [
        np.concatenate([TrainBatches(Counting(92), size, 7, seed=5).window_ids(step) for step in range(24 // size)])
        for size in (1, 4, 12)
    ]
    assert np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[0], orders[2])


def test_a_batch_is_a_function_of_seed_and_step():
    asked_in_order = TrainBatches(Counting(500), 4, 7, seed=9)
    straight = [asked_in_order.batch(step) for step in range(40)]
    other = TrainBatches(Counting(500), 4, 7, seed=9)
    for step in (39, 0, 17, 17, 3):
        assert np.array_equal(other.batch(step)[0], straight[step][0])
        assert np.array_equal(other.batch(step)[1], straight[step][1])
    assert not np.array_equal(TrainBatches(Counting(500), 4, 7, seed=10).window_ids(0), asked_in_order.window_ids(0))


@pytest.mark.parametrize("make", [lambda s: TrainBatches(s, 2, 8, seed=0), lambda s: ValWindows(s, 8, 1000)])
def test_a_split_shorter_than_one_window_names_both_numbers(make):
    with pytest.raises(UserError, match=r"train split has 8 tokens, expected at least 9 .*sequence_length=8"):
        make(Counting(8))
    make(Counting(9))


def test_all_validation_windows_when_they_fit():
    windows = ValWindows(Counting(100), sequence_length=7, max_tokens=14 * 7)
    assert len(windows) == 14
    inputs, targets = windows.batch(0, len(windows))
    assert inputs.ravel().tolist() == list(range(98))
    assert targets.ravel().tolist() == list(range(1, 99))


def test_fewer_validation_windows_are_spread_evenly():
    windows = ValWindows(Counting(10 * 100 + 1), sequence_length=10, max_tokens=79)
    starts = windows.batch(0, 7)[0][:, 0]
    assert len(windows) == 7
    assert starts[0] == 0
    assert set(np.diff(starts)) == {140, 150}  # 100 windows of 10 tokens, a seventh of them apart
    assert starts[-1] + 150 >= 1000


def test_validation_batches_are_slices_of_one_list():
    windows = ValWindows(Counting(1001), sequence_length=10, max_tokens=250)
    whole = windows.batch(0, 25)
    parts = [windows.batch(first, first + 4) for first in range(0, 25, 4)]
    for side in (0, 1):
        assert np.array_equal(np.concatenate([part[side] for part in parts]), whole[side])
    assert parts[-1][0].shape == (1, 10)


def test_validation_budget_below_one_window_is_an_error():
    with pytest.raises(UserError, match=r"training\.eval_tokens=9: .* type training\.eval_tokens=10"):
        ValWindows(Counting(1001), sequence_length=10, max_tokens=9)
