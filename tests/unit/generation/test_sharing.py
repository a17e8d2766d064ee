"""Groups of prompts shared by processes, which are threads here: each row is drawn once, in the same group."""

import copy
import dataclasses
import io
import sys
from unittest import mock

import pytest

from gpt2lab.config import RuntimeConfig, SamplingConfig
from gpt2lab.distributed import ALONE
from gpt2lab.generation import generate, generate_shared, sharing
from gpt2lab.runtime import open_runtime
from tests.conftest import as_processes, make_tiny_model

CPU = open_runtime(RuntimeConfig(device="cpu", precision="fp32"))
PROMPTS = [[1], [2, 3], [4, 5, 6], [7, 8], [9], [10, 11], [12]]
SAMPLING = SamplingConfig(temperature=1.5, max_new_tokens=12, batch_size=2, seed=3)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_processes_together_draw_each_row_once_in_the_same_groups(size):
    """And the ids are those of ``generate``, which draws all rows in one queue, also of rows that end early."""
    model = make_tiny_model(vocab_size=20)
    eot_id = generate(model, PROMPTS, SAMPLING, eot_id=-1, runtime=CPU)[0][4]
    expected = generate(model, PROMPTS, SAMPLING, eot_id=eot_id, runtime=CPU)
    assert len({len(row) for row in expected}) > 1
    settings = {"eot_id": eot_id, "runtime": CPU, "group_size": 3}
    with mock.patch.object(sharing, "generate", side_effect=generate) as drawing:
        found = as_processes(
            size, lambda world: generate_shared(copy.deepcopy(model), PROMPTS, SAMPLING, world=world, **settings)
        )
    groups = sorted((call.kwargs["first_row"], call.args[1]) for call in drawing.call_args_list)
    assert groups == [(0, PROMPTS[:3]), (3, PROMPTS[3:6]), (6, PROMPTS[6:])]
    assert found == [expected] * size


def test_tokens_that_are_allowed_but_not_drawn_take_no_memory():
    model = make_tiny_model(vocab_size=20)
    eot_id = generate(model, [[1]], SAMPLING, eot_id=-1, runtime=CPU)[0][4]
    expected = generate(model, [[1]], SAMPLING, eot_id=eot_id, runtime=CPU)
    settings = {"eot_id": eot_id, "runtime": CPU, "group_size": 1, "world": ALONE}
    for allowed in (12, 2**60):
        sampling = dataclasses.replace(SAMPLING, max_new_tokens=allowed)
        assert generate_shared(model, [[1]], sampling, **settings) == expected


@pytest.mark.parametrize("size", [1, 3])
def test_rows_that_end_at_once_are_empty(size):
    model = make_tiny_model(vocab_size=20)
    with mock.patch.object(sharing, "generate", side_effect=lambda model, group, *_, **__: [[] for _ in group]):
        settings = {"eot_id": 0, "runtime": CPU, "group_size": 2}
        found = as_processes(size, lambda world: generate_shared(model, PROMPTS, SAMPLING, world=world, **settings))
    assert found == [[[]] * len(PROMPTS)] * size


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "rank", "shown"), [(Terminal, 0, True), (Terminal, 1, False), (io.StringIO, 0, False)]
)
def test_the_main_process_shows_on_a_terminal_how_many_tokens_are_left(stream, rank, shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    world = mock.Mock(rank=rank, size=2, is_main=rank == 0, sum=lambda values: values)
    model = make_tiny_model(vocab_size=20)
    generate_shared(model, PROMPTS, SAMPLING, eot_id=-1, runtime=CPU, world=world, group_size=4)
    assert ("| 0/48 [" in sys.stderr.getvalue()) == shown
