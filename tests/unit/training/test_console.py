"""What a run prints."""

import dataclasses
import io
import logging
import re

import pytest

from gpt2lab.config import RuntimeConfig
from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.training import console, estimates
from gpt2lab.training.console import closing_table, header, readable_bytes, readable_time, warn_about_size
from gpt2lab.training.estimates import Estimate, memory_bytes, seconds
from gpt2lab.training.references import Reference


@pytest.fixture
def plan(make_trainer):
    plan = make_trainer("run", max_steps=50).plan
    return dataclasses.replace(plan, processes=2, micro_batch_size=2, device="cuda:0", device_name="a GPU")


def test_header_fits_80_columns_and_multiplies_out(plan):
    text = header(plan, Estimate(95.0, 3_400_000_000))
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith("run directory"))
    assert "64 tokens\n                = 2 sequences x 16 tokens x 1 micro-batches x 2 processes" in text
    assert "50 steps = 3,200 tokens" in text
    assert "about 1.6 min, 3.4 GB of memory" in text
    assert "2 x a GPU, fp32" in text


def test_closing_table_has_the_references(plan):
    own, other = Perplexity(200.0, 100, 300), Perplexity(400.0, 100, 300)
    lines = closing_table(own, [Reference("bigram", other)], plan).splitlines()
    assert lines[1].split() == ["this", "model", "2.0000", "7.39", "0.9618"]
    assert lines[2].split() == ["bigram", "4.0000", "54.60", "1.9236"]
    assert lines[3].split() == ["uniform", "5.5491", "257.00"]
    assert "above unigram" not in closing_table(own, [Reference("unigram", own)], plan)
    assert "learned less than how frequent each token is" in closing_table(other, [Reference("unigram", own)], plan)


def test_a_corpus_that_is_far_too_small_is_a_warning_with_numbers(plan, caplog):
    with caplog.at_level(logging.WARNING):
        warn_about_size(dataclasses.replace(plan, total_steps=plan.epoch_sequences * 16 * 4 // 64), Estimate(10.0, 0))
        assert not caplog.text
        warn_about_size(dataclasses.replace(plan, total_steps=plan.epoch_sequences * 16 * 9 // 64), Estimate(10.0, 0))
    assert "passes over the" in caplog.text
    assert f"training.max_tokens={plan.epoch_sequences * 16 * 4}" in caplog.text


def test_a_step_of_hours_is_a_warning_that_says_what_a_trial_is(plan, caplog):
    with caplog.at_level(logging.WARNING):
        warn_about_size(plan, Estimate(200.0 * plan.total_steps, 0))
        assert not caplog.text
        warn_about_size(plan, Estimate(7200.0 * plan.total_steps, 0))
    assert "a step of 64 tokens takes about 2.0 h" in caplog.text
    assert "training.batch_tokens=32" in caplog.text


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7 s"), (89, "89 s"), (90, "1.5 min"), (5399, "90 min"), (5400, "1.5 h"), (2e5, "2.3 days")]
)
def test_readable_time(value, text):
    assert readable_time(value) == text


def test_readable_bytes():
    assert (readable_bytes(5.12e8), readable_bytes(3.4e9)) == ("512 MB", "3.4 GB")


def test_memory_estimate_by_hand(plan):
    channels, parameters = 16 * 2 * 16, 16 * plan.parameters
    # the loss: logits of 32 tokens and 257 ids, in rows of 384, and gradients of the head and hidden states
    loss = 4 * (32 * 384 + (257 + 32) * 16)
    assert memory_bytes(plan, RuntimeConfig()) == parameters + 2 * 68 * channels + loss
    checkpointing = RuntimeConfig(activation_checkpointing=True)
    assert memory_bytes(plan, checkpointing) == parameters + (2 * 4 + 68) * channels + loss
    # with FSDP half of weights, gradients and moments; in validation all weights beside half of the moments and weights
    sharded = dataclasses.replace(plan, processes=2)
    assert memory_bytes(sharded, RuntimeConfig(parallel="fsdp")) == max(
        parameters // 2 + 2 * 68 * channels + loss, (12 // 2 + 4) * plan.parameters
    )
    assert memory_bytes(sharded, RuntimeConfig()) == parameters + 2 * 68 * channels + loss
    half = dataclasses.replace(plan, precision="bf16")
    loss = 2 * (32 * 384 + 384 * 16) + 4 * (384 + 32) * 16  # and a copy of the head
    assert memory_bytes(half, RuntimeConfig()) == parameters + 2 * 34 * channels + loss
    # on a GPU a group has at most 2^29 logits: those of half of these tokens
    tokens = 2**29 // 384 * 2
    large = dataclasses.replace(half, sequence_length=tokens // 2)
    loss = 2 * (tokens // 2 * 384 + 384 * 16) + 4 * (384 + tokens) * 16
    assert memory_bytes(large, RuntimeConfig()) == parameters + 2 * 34 * tokens * 16 + loss


def test_time_estimate_is_proportional_to_the_work(plan, monkeypatch, make_trainer):
    monkeypatch.setattr("gpt2lab.training.estimates._matmul_flops", lambda runtime: 1e9)
    one = seconds(dataclasses.replace(plan, processes=1), None)
    assert one == pytest.approx(plan.flops_per_token * 3200 / 0.4e9)
    assert seconds(plan, None) == pytest.approx(one / 2)


def test_speed_of_a_product_is_that_of_the_fastest(monkeypatch, cpu):
    clock = iter([0.0, 0.05, 0.06, 0.2])
    monkeypatch.setattr(estimates, "TRIAL_SIZE", 8)
    monkeypatch.setattr(estimates.time, "perf_counter", lambda: next(clock))
    assert estimates._matmul_flops(cpu) == pytest.approx(2 * 8**3 / 0.01)


def test_progress_bar_shows_loss_speed_and_time_left(make_trainer, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    make_trainer("run", max_steps=3).run()
    last = terminal.getvalue().rstrip("\n").split("\r")[-1]
    assert re.fullmatch(r"3/3 \|.*\| loss \d\.\d{3}  [\d,]+ tok/s  \d\d:\d\d < 00:00", last), last


def test_a_batch_job_has_a_line_a_minute_with_the_time_left(monkeypatch, caplog):
    """20 s a step from step 10 on: lines after steps 13 and 16 of 100, 87 and 84 steps before the end."""
    caplog.set_level(logging.INFO)
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.Progress(100, 10, is_main=True) as progress:
        for step in range(11, 18):
            progress.show_step(None if step == 11 else 100 / step, 1234.5)
    assert caplog.messages == [
        "step     13 of 100  loss 7.692  1,234 tok/s  about 29 min left",
        "step     16 of 100  loss 6.250  1,234 tok/s  about 28 min left",
    ]
    caplog.clear()
    clock = iter(range(0, 1000, 20))
    with console.Progress(100, 10, is_main=False) as other_process:
        other_process.show_step(1.0, 1.0)
        for _ in range(5):
            other_process.show_step(1.0, 1.0)
    assert not caplog.messages
