"""gpt2lab.data.loading.batches: permutations counted out, windows against plain slices of the text."""

import itertools
import math
import threading
import time
import timeit
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from gpt2lab.config import IGNORE_INDEX, UserError
from gpt2lab.data.loading.batches import BLOCK, TrainBatches, ValidationBatches
from gpt2lab.data.loading.mixture import shares_of
from gpt2lab.data.loading.order import permute, round_keys
from gpt2lab.data.loading.prefetch import Prefetcher
from gpt2lab.data.loading.sequences import ConsecutiveWindows, PackedDocuments, document_begins, pack, with_layout


class Counting:
    """A stream in which token i is i, so that a token tells its place."""

    split, folder = "train", "data/counting"

    def __init__(self, length, first=0):
        self.tokens = first + np.arange(length, dtype=np.uint32)

    def __len__(self):
        return len(self.tokens)

    def read(self, start, stop):
        assert 0 <= start <= stop <= len(self)
        return self.tokens[start:stop]


class Documents(Counting):
    """Documents of given lengths, end-of-text (id 0) before each; the other tokens tell their place."""

    eot_id = 0

    def __init__(self, lengths):
        super().__init__(sum(lengths))
        self.begins = np.cumsum([0, *lengths])[:-1]
        self.tokens[self.begins] = self.eot_id

    def starts(self):
        return self.begins


def train(length, batch_size, sequence_length, seed, **settings):
    return TrainBatches([ConsecutiveWindows(Counting(length), sequence_length)], batch_size, seed, **settings)


def windows_of(batches, step):
    return batches.sequence_numbers(step)[1]


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


def test_neighbors_are_torn_apart():
    places = permute(np.arange(100_000), 100_000, round_keys(0, 0))
    # In a random order one neighbor in 100,000 stays next to it, so a handful in all.
    assert (np.abs(np.diff(places)) == 1).sum() < 15
    assert abs(np.corrcoef(np.arange(100_000), places)[0, 1]) < 0.02


def test_orders_differ_by_epoch_and_by_seed():
    orders = [
        tuple(permute(np.arange(50), 50, round_keys(*key)))
        for key in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 11), (11, 1))
    ]
    assert len(set(orders)) == 6


def test_targets_are_the_next_tokens_of_the_window():
    batches = train(100, 4, 7, 1)
    inputs, targets = batches.batch(2)[:2]
    assert batches.batch(2).segment_BT is None
    assert (inputs.shape, inputs.dtype, targets.shape, targets.dtype) == ((4, 7), np.int64, (4, 7), np.int64)
    for row, window in enumerate(windows_of(batches, 2)):
        assert inputs[row].tolist() == list(range(window * 7, window * 7 + 7))
        assert targets[row].tolist() == list(range(window * 7 + 1, window * 7 + 8))


@pytest.mark.parametrize(
    ("tokens", "windows", "dropped"), [(100, 14, 1), (99, 14, 0), (98, 13, 6), (8, 1, 0), (14, 1, 6)]
)
def test_windows_and_dropped_tokens(tokens, windows, dropped):
    batches = train(tokens, 1, 7, 0)
    assert (batches.num_sequences, batches.datasets[0].dropped_tokens) == (windows, dropped)
    seen = {int(token) for step in range(windows) for rows in batches.batch(step)[:2] for token in rows.ravel()}
    assert len(seen) == tokens - dropped


@pytest.mark.parametrize("batch_size", [1, 3, 8, 40])
def test_each_window_once_an_epoch_also_when_batches_straddle_it(batch_size):
    batches = train(92, batch_size, 7, 5)
    assert batches.num_sequences == 13
    order = np.concatenate([windows_of(batches, step) for step in range(13 * 4)])
    epochs = order[: len(order) // 13 * 13].reshape(-1, 13)
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == len(epochs)


def test_the_order_of_sequences_does_not_depend_on_the_batch_size():
    orders = [
        np.concatenate([windows_of(train(92, size, 7, 5), step) for step in range(24 // size)]) for size in (1, 4, 12)
    ]
    assert np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[0], orders[2])


def test_a_batch_is_a_function_of_seed_and_step():
    asked_in_order = train(500, 4, 7, 9)
    straight = [asked_in_order.batch(step) for step in range(40)]
    other = train(500, 4, 7, 9)
    for step in (39, 0, 17, 17, 3):
        assert np.array_equal(other.batch(step)[0], straight[step][0])
        assert np.array_equal(other.batch(step)[1], straight[step][1])
    assert not np.array_equal(windows_of(train(500, 4, 7, 10), 0), windows_of(asked_in_order, 0))


def test_a_split_shorter_than_one_window_names_both_numbers():
    with pytest.raises(
        UserError,
        match=r"sequence_length=8: the train split of data/counting has 8 tokens, expected at least 9 for one",
    ):
        ConsecutiveWindows(Counting(8), 8)
    assert len(ConsecutiveWindows(Counting(9), 8)) == 1


def test_all_validation_windows_when_they_fit():
    windows = ValidationBatches(ConsecutiveWindows(Counting(100), 7), 14 * 7)
    assert len(windows) == 14
    inputs, targets = windows.batch(0, len(windows))[:2]
    assert inputs.ravel().tolist() == list(range(98))
    assert targets.ravel().tolist() == list(range(1, 99))


def test_fewer_validation_windows_are_spread_evenly():
    windows = ValidationBatches(ConsecutiveWindows(Counting(10 * 100 + 1), 10), 79)
    starts = windows.batch(0, 7)[0][:, 0]
    assert len(windows) == 7
    assert starts[0] == 0
    assert set(np.diff(starts)) == {140, 150}  # 100 windows of 10 tokens, a seventh of them apart
    assert starts[-1] + 150 >= 1000


def test_validation_batches_are_slices_of_one_list():
    windows = ValidationBatches(ConsecutiveWindows(Counting(1001), 10), 250)
    whole = windows.batch(0, 25)
    parts = [windows.batch(first, first + 4) for first in range(0, 25, 4)]
    for side in (0, 1):
        assert np.array_equal(np.concatenate([part[side] for part in parts]), whole[side])
    assert parts[-1][0].shape == (1, 10)


def test_validation_budget_below_one_window_is_an_error():
    with pytest.raises(UserError, match=r"training\.eval_tokens=9: .* type training\.eval_tokens=10"):
        ValidationBatches(ConsecutiveWindows(Counting(1001), 10), 9)


# -------------------------------------------------------------------------------------------------- ranks, cost, speed


def test_two_thousand_cases_of_epochs_and_ranks():
    """Each window once an epoch; the ranks' parts together are the batch of one rank."""
    generator = np.random.default_rng(0)
    for _ in range(2_000):
        seed, world_size = int(generator.integers(2**32)), int(generator.integers(1, 6))
        batch_size, epoch = world_size * int(generator.integers(1, 9)), int(generator.integers(4))
        num_sequences = int(generator.integers(1, 2 * batch_size + 2))
        one = train(num_sequences + 1, batch_size, 1, seed)
        first = epoch * num_sequences // batch_size
        steps = range(first, (epoch + 1) * num_sequences // batch_size + 1)
        whole = np.concatenate([windows_of(one, step) for step in steps])
        begin = epoch * num_sequences - first * batch_size
        assert sorted(whole[begin : begin + num_sequences].tolist()) == list(range(num_sequences))
        step = int(generator.integers(10**8))
        ranks = [
            train(num_sequences + 1, batch_size, 1, seed, rank=r, world_size=world_size) for r in range(world_size)
        ]
        parts = [windows_of(rank, step) for rank in ranks]
        assert np.array_equal(np.stack(parts, axis=1).ravel(), windows_of(one, step))


def test_ranks_get_the_rows_of_their_part():
    one, ranks = train(500, 6, 7, 3), [train(500, 6, 7, 3, rank=rank, world_size=3) for rank in range(3)]
    for rank, batches in enumerate(ranks):
        assert np.array_equal(batches.batch(5).targets_BT, one.batch(5).targets_BT[rank::3])


def test_a_batch_that_the_ranks_cannot_share_is_an_error():
    with pytest.raises(
        UserError,
        match=r"training\.batch_tokens=28: 3 processes cannot share its 4 sequences evenly.*training\.batch_tokens=42",
    ):
        train(500, 4, 7, 3, world_size=3)


class Endless(Counting):
    """A hundred billion tokens, made up when they are read."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def read(self, start, stop):
        assert 0 <= start <= stop <= len(self)
        return np.arange(start, stop) % 50_000


def test_any_step_of_a_hundred_billion_tokens_costs_the_same():
    tracemalloc.start()
    batches = TrainBatches([ConsecutiveWindows(Endless(10**11), 1024)], 64, 0)
    seconds = {}
    for step in (0, 10**8):
        batches.batch(step)
        seconds[step] = min(timeit.repeat(lambda step=step: batches.batch(step), number=20, repeat=5))
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds[10**8] < 2 * seconds[0]
    assert memory < 10 * 2**20


# ------------------------------------------------------------------------------------------------ packing and documents


@pytest.mark.parametrize(
    ("lengths", "row_tokens", "borders"),
    [
        ([3, 4, 3], 7, [0, 7, 10]),
        ([3, 4, 3], 6, [0, 3, 10 - 3, 10]),
        ([3, 4, 3], 10, [0, 10]),
        ([3, 4, 3], 100, [0, 10]),
        ([25, 2, 2], 10, [0, 10, 20, 29]),  # the end of a long document shares its row
        ([20, 5], 10, [0, 10, 20, 25]),
        ([1, 1, 1, 1, 1], 2, [0, 2, 4]),  # the last token has no target, so it begins no sequence
        ([1, 1, 1, 1, 1, 1], 2, [0, 2, 4, 6]),
        ([30], 7, [0, 7, 14, 21, 28, 30]),
        ([29], 7, [0, 7, 14, 21, 28]),
        ([5, 15], 7, [0, 5, 12, 19]),
        ([2], 1, [0, 1]),
    ],
)
def test_packing_by_hand(lengths, row_tokens, borders):
    assert pack(Documents(lengths).starts(), sum(lengths), row_tokens).tolist() == borders


def test_every_packed_sequence_has_a_target_and_every_token_but_the_first_is_one():
    generator = np.random.default_rng(3)
    for _ in range(500):
        stream = Documents(generator.integers(1, 20, generator.integers(2, 12)).tolist())
        sequences = PackedDocuments(stream, int(generator.integers(1, 12)))
        targets = sequences.read(np.arange(len(sequences))).targets_BT
        scored = targets != IGNORE_INDEX
        assert scored.any(axis=1).all()
        assert targets[scored].tolist() == stream.tokens[1:].tolist()


def test_packing_one_token_is_an_error():
    with pytest.raises(
        UserError, match=r"data\.packing=documents: the train split of data/counting has 1 token, expected at least 2"
    ):
        PackedDocuments(Documents([1]), 5)


def test_packed_rows_hold_every_token_once_and_whole_documents():
    lengths = np.random.default_rng(0).integers(1, 40, 300).tolist()
    stream = Documents(lengths)
    rows = PackedDocuments(stream, 30)
    batch = rows.read(np.arange(len(rows)))
    scored = batch.targets_BT != IGNORE_INDEX
    # in order, the scored targets are the split without its first token, and the inputs before them the one before
    assert batch.targets_BT[scored].tolist() == stream.tokens[1:].tolist()
    assert batch.inputs_BT[scored].tolist() == stream.tokens[:-1].tolist()
    last = stream.tokens[-1:].tolist()  # the split's last token is an input without a target
    assert [token for token in batch.inputs_BT[~scored].tolist() if token != stream.eot_id] == last
    borders = pack(stream.starts(), len(stream), 30)
    whole = {length for length in lengths if length <= 30}
    cut = [b for b in borders[1:-1] if b not in set(stream.starts())]
    assert whole
    assert len(cut) == sum((length - 1) // 30 for length in lengths)  # long ones alone are cut


def test_documents_are_told_apart_and_positions_begin_again():
    stream = Documents([3, 1, 5, 4])
    windows = ConsecutiveWindows(stream, 6).read(np.array([0, 1]))
    batch = with_layout(windows, document_begins(windows, eot_id=0))
    assert batch.inputs_BT.tolist() == [[0, 1, 2, 0, 0, 5], [6, 7, 8, 0, 10, 11]]
    assert batch.segment_BT.tolist() == [[0, 0, 0, 1, 2, 2], [0, 0, 0, 1, 1, 1]]
    assert batch.pos_BT.tolist() == [[0, 1, 2, 0, 0, 1], [0, 1, 2, 0, 1, 2]]
    # the end of a document is predicted, from that document
    assert batch.targets_BT.tolist() == [[1, 2, 0, 0, 5, 6], [7, 8, 0, 10, 11, 12]]


@pytest.mark.parametrize("rows", [ConsecutiveWindows, PackedDocuments])
def test_layout_is_as_counted_one_by_one(rows):
    stream = Documents(np.random.default_rng(1).integers(1, 12, 60).tolist())
    batches = TrainBatches([rows(stream, 16)], 5, 2, document_masking=True)
    for step in range(4):
        batch = batches.batch(step)
        for inputs, pos, segment in zip(batch.inputs_BT, batch.pos_BT, batch.segment_BT, strict=True):
            document, place = 0, 0
            for i, token in enumerate(inputs):
                if i and token == 0:
                    document, place = document + 1, 0
                assert (segment[i], pos[i]) == (document, place)
                place += 1


def test_random_lengths_cut_sequences_into_texts_of_uniform_length():
    T, batch_size = 16, 12
    batches = train(16 * 5000 + 1, batch_size, T, 3, random_lengths=True)
    first_lengths = Counter()
    for step in range(400):
        batch = batches.batch(step)
        assert batch.inputs_BT.tolist() == train(16 * 5000 + 1, batch_size, T, 3).batch(step).inputs_BT.tolist()
        for pos_T, segment_T in zip(batch.pos_BT.tolist(), batch.segment_BT.tolist(), strict=True):
            counted = [segment_T[:i].count(segment) for i, segment in enumerate(segment_T)]
            assert pos_T == counted
            assert segment_T == sorted(segment_T)
            first_lengths[segment_T.count(0)] += 1
    assert sorted(first_lengths) == list(range(1, T + 1))
    expected = 400 * batch_size / T
    chi_square = sum((count - expected) ** 2 / expected for count in first_lengths.values())
    assert chi_square < 37.7  # the 99.9th percentile with 15 degrees of freedom


def test_random_lengths_do_not_depend_on_the_number_of_processes():
    settings = {"random_lengths": True, "world_size": 3}
    whole = train(1000, 6, 10, 5, random_lengths=True).batch(7)
    for rank in range(3):
        part = train(1000, 6, 10, 5, rank=rank, **settings).batch(7)
        assert part.segment_BT.tolist() == whole.segment_BT[rank::3].tolist()
    assert whole.segment_BT.tolist() != train(1000, 6, 10, 6, random_lengths=True).batch(7).segment_BT.tolist()


# -------------------------------------------------------------------------------------------------------------- mixture


def test_a_mixture_keeps_its_shares_and_each_sets_epochs():
    shares = shares_of({"a": 7, "b": 2.5, "c": 0.5})
    assert shares == [700, 250, 50]
    sets = [ConsecutiveWindows(Counting(3 * n + 1), 3) for n in (300, 90, 1000)]
    for batch_size, world_size in ((10, 1), (7, 1), (12, 3)):
        ranks = [
            TrainBatches(sets, batch_size, 4, shares=shares, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        parts = [[rank.sequence_numbers(step) for rank in ranks] for step in range(4 * BLOCK // batch_size + 1)]
        drawn = [np.concatenate([np.stack([p[i] for p in part], axis=1).ravel() for part in parts]) for i in (0, 1)]
        for block in range(4):
            counts = np.bincount(drawn[0][block * BLOCK : (block + 1) * BLOCK], minlength=3)
            assert counts.tolist() == shares
        for number, rows in enumerate(sets):
            order = drawn[1][: 4 * BLOCK][drawn[0][: 4 * BLOCK] == number]
            epochs = len(order) // len(rows)
            assert set(np.bincount(order, minlength=len(rows)).tolist()) <= {epochs, epochs + 1}
    # the sets alternate: no long stretch of one
    assert max(len(list(run)) for _, run in itertools.groupby(drawn[0].tolist())) < 40


@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (7, 1), (12, 3), (1500, 2), (2304, 1)])
def test_draws_of_each_dataset_of_a_mixture_are_whole_epochs(batch_size, world_size):
    sizes, shares = (300, 150, 2500, 1, 7), (499, 250, 200, 50, 1)
    sets = [ConsecutiveWindows(Counting(3 * n + 1), 3) for n in sizes]
    settings = {"shares": shares, "world_size": world_size}
    ranks = [TrainBatches(sets, batch_size, 4, rank=rank, **settings) for rank in range(world_size)]
    steps = range(16 * BLOCK // batch_size)
    read = {step: [rank.sequence_numbers(step) for rank in ranks] for step in reversed(steps)}
    drawn = [
        np.concatenate([np.stack([part[i] for part in read[step]], axis=1).ravel() for step in steps]) for i in (0, 1)
    ]
    for number, size in enumerate(sizes):
        own = drawn[1][drawn[0] == number]
        epochs = own[: len(own) // size * size].reshape(-1, size)
        assert len(epochs) >= 1
        assert (np.sort(epochs, axis=1) == np.arange(size)).all()
        rest = own[epochs.size :].tolist()
        assert len(set(rest)) == len(rest)
    alone = TrainBatches(sets, 1, 4, shares=shares)
    for position in (0, 999, 1000, 5_432, 13_000):
        dataset, number = alone.sequence_numbers(position)
        assert (dataset[0], number[0]) == (drawn[0][position], drawn[1][position])


def test_a_mixture_reads_each_row_from_its_set():
    sets = [ConsecutiveWindows(Counting(301, first), 3) for first in (0, 1000)]
    batches = TrainBatches(sets, 8, 1, shares=[500, 500])
    number, row = batches.sequence_numbers(3)
    assert batches.batch(3).inputs_BT[:, 0].tolist() == (1000 * number + 3 * row).tolist()
    assert set(number.tolist()) == {0, 1}


def test_a_share_too_small_is_an_error():
    with pytest.raises(UserError, match=r"data\.mixture\.b=0\.0001: expected at least a share of 0\.001"):
        shares_of({"a": 1, "b": 0.0001})


# ----------------------------------------------------------------------------------------------------------- prefetch


def test_reading_ahead_changes_nothing_and_happens_beside():
    calls, gate = [], threading.Event()

    def load(step):
        if step == 2:
            gate.wait(10)
        calls.append((step, threading.current_thread().name))
        return step * 10

    ahead = Prefetcher(load)
    assert [ahead(0), ahead(1)] == [0, 10]
    gate.set()
    assert [ahead(2), ahead(3), ahead(50), ahead(51), ahead(0)] == [20, 30, 500, 510, 0]
    steps = [step for step, _ in calls]
    assert steps[:4] == [0, 1, 2, 3]
    assert all(name.startswith("prefetch") for _, name in calls)
    deadline = time.monotonic() + 10
    while {1, 2} - {step for step, _ in calls[-3:]} and time.monotonic() < deadline:
        time.sleep(0.001)
    assert {1, 2} <= {step for step, _ in calls[-3:]}  # without being asked for


def test_an_error_in_reading_ahead_comes_out_at_its_step():
    def load(step):
        if step == 1:
            raise OSError("disk gone")
        return step

    ahead = Prefetcher(load)
    assert ahead(0) == 0
    with pytest.raises(OSError, match="disk gone"):
        ahead(1)
    assert ahead(2) == 2
