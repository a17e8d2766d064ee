"""Numbers, switches and groups of every configuration are checked where Python code gives them."""

import dataclasses
import inspect
import re
import types
import typing

import numpy as np
import pytest

from gpt2lab import config
from gpt2lab.config import ModelConfig, OptimizerConfig, SamplingConfig, UserError

CONFIGS = [found for found in vars(config).values() if inspect.isclass(found) and dataclasses.is_dataclass(found)]


def wrong_values():
    for config_class in CONFIGS:
        hints = typing.get_type_hints(config_class)
        for field in dataclasses.fields(config_class):
            hint = hints[field.name]
            kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
            if {int, float} & {*kinds}:
                values = ["many", True, *([2.5] if int in kinds else []), *([None] if type(None) not in kinds else [])]
                yield from ((config_class, field.name, value) for value in values)


def test_a_number_of_another_type_is_one_line():
    cases = list(wrong_values())
    assert len({(config_class, name) for config_class, name, _ in cases}) > 80
    for config_class, name, value in cases:
        with pytest.raises(
            UserError, match=rf"^{name}={re.escape(str(value))}: expected a (whole )?number(, or None)?$"
        ):
            config_class(**{name: value})


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"bias": "no"}, "bias=no: expected True or False"),
        ({"qk_norm": 1}, "qk_norm=1: expected True or False"),
        ({"positions": "rope"}, r"positions=rope: expected PositionsConfig\(\.\.\.\)"),
    ],
)
def test_a_switch_or_a_group_of_another_type_is_one_line(wrong, expected):
    with pytest.raises(UserError, match=f"^{expected}$"):
        ModelConfig(**wrong)


def test_numbers_of_numpy_are_numbers():
    assert SamplingConfig(top_k=np.int64(5), temperature=np.float32(0.5)).top_k == 5
    assert ModelConfig(n_layer=np.int32(2), dropout=0).n_layer == 2
    assert OptimizerConfig(lr=np.float64(0.1)).lr == 0.1
