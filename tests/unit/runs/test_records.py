"""Records that are damaged."""

import json
import re

import pytest
import yaml

from gpt2lab.config import UserError
from gpt2lab.runs.records import read_config, read_object, stopped_as_diverged


def test_read_config_gives_back_what_was_written(tmp_path):
    config = {"model": {"norm": {"name": "rmsnorm"}, "bias": None}, "seed": 3, "files": [["a", 1], ["ü", 0.5]]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    assert read_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    "text", ["", "{}", "3", "[1, 2]", "a: [", "a: \udcff", "a: " + "[" * 300_000, "a: " + "{b: " * 51]
)
def test_a_config_that_is_damaged_is_one_line(tmp_path, text):
    """libyaml overflows the stack on 300,000 brackets, which would end the process without a word."""
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError, match=r"config.yaml: damaged: ") as error:
        read_config(path)
    assert "\n" not in str(error.value)


SUMMARY = {"status": "completed", "tokens": 8, "val_loss": 4.5, "loss": None, "of_a_later_version": ["x"]}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokens", "x", "Expected `int`, got `str` - at `$.tokens`"),
        ("tokens", None, "Expected `int`, got `null` - at `$.tokens`"),
        ("val_loss", [1], "Expected `float | null`, got `array` - at `$.val_loss`"),
        ("status", 3, "Expected `str`, got `int` - at `$.status`"),
    ],
)
def test_a_summary_with_a_value_of_another_type_is_damaged(tmp_path, key, value, message):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(SUMMARY))
    assert read_object(path) == SUMMARY
    path.write_text(json.dumps({**SUMMARY, key: value}))
    with pytest.raises(UserError, match=f"summary.json: damaged: {re.escape(message)}"):
        read_object(path)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        ("failed: step 9: loss nan; 4 steps in a row: training diverged; try a lower optimizer.lr", None, True),
        ("failed", "exit status 2: step 9: loss nan, non-finite gradients in 3 parameters; training diverged", True),
        ("running", "killed by SIGKILL", False),
        ("failed", "exit status 2: run_dir=runs/sweeps/diverging/seed=1: another process is at work there", False),
        ("completed", "training diverged", False),
    ],
)
def test_stopped_as_diverged_knows_a_diverged_run_by_its_reason(status, error, expected):
    assert stopped_as_diverged(status, error) == expected
