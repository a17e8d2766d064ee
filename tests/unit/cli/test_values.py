"""Every setting with values that make no sense: accepted where it does, else one line that names the key, at once."""

import dataclasses
import re
import time
import typing

import pytest

from gpt2lab.cli.compose import JOBS, compose_config
from gpt2lab.config import ReportJob, UserError, from_dict, to_dict

NUMBERS = (-1, 0, 10**9, 10**18, 10**30, -(10**30), 1e300, float("nan"), float("inf"), -float("inf"))
WRONG_TYPES = ([[1]], {"a": 1}, "text", None, True)


def fields(kind, prefix=()):
    """Path and type of every setting of a config class and those nested in it."""
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from fields(hint, (*prefix, name))
        else:
            yield (*prefix, name), hint


def changed(values, path, value):
    if not path:
        return value
    return values | {path[0]: changed(values[path[0]], path[1:], value)}


CONFIGS = {name: to_dict(ReportJob(sweep="s") if name == "report" else job()) for name, job in JOBS.items()}


@pytest.mark.parametrize("name", JOBS)
def test_no_value_is_a_traceback_or_takes_long(name):
    tried = refused = 0
    for path, _ in fields(JOBS[name]):
        for value in (*NUMBERS, *WRONG_TYPES):
            started = time.monotonic()
            try:
                from_dict(JOBS[name], changed(CONFIGS[name], path, value))
            except UserError as error:
                refused += 1
                line = str(error)
            else:
                line = path[-1]
            assert path[-1] in line or path[-2] in line, f"{path}={value}: {line}"
            assert "\n" not in line
            assert time.monotonic() - started < 1, f"{path}={value}"
            tried += 1
    assert refused > tried / 3


@pytest.mark.parametrize("name", JOBS)
def test_numbers_are_finite(name):
    for path, hint in fields(JOBS[name]):
        if float in (hint, *typing.get_args(hint)):
            for value in (float("nan"), float("inf")):
                with pytest.raises(UserError, match=path[-1]):
                    from_dict(JOBS[name], changed(CONFIGS[name], path, value))


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("prepare.num_workers=1000000000", "prepare.num_workers=1000000000: expected a whole number from 0 to 1024"),
        ("data.files=[[1]]", "data.files"),
        ("logger.project=é", """try 'logger.project="é"'"""),
        ("logger.project=a~b", """try 'logger.project="a~b"'"""),
        ("optimizer.eps=inf", "optimizer.eps=inf: expected a finite number"),
        ("training.z_loss=inf", "training.z_loss=inf: expected a finite number"),
        ("model=null", "model"),
        ("samples.sampling.top_k=0", "samples.sampling.top_k=0: expected"),
        ("optimizer.learning_rate=1", "optimizer.learning_rate: unknown key; did you mean optimizer.lr?"),
        ("training.batch_size=1", "did you mean training.batch_tokens (in tokens: sequences x model.block_size)?"),
        ("gpt2", "gpt2: no value; expected KEY=VALUE"),
        ("data.files=[é.txt,b]", """try 'data.files=["é.txt","b"]'"""),
        ("runs=[a/p=x,seed=1,b/p=x,seed=1]", """try 'runs=["a/p=x,seed=1","b/p=x,seed=1"]'"""),
    ],
)
def test_mistakes_on_the_command_line(override, shown):
    command = {"prepare": "prepare", "runs": "report"}.get(re.split(r"\W", override)[0], "train")
    data = ["data=text_files"] if override.startswith("data") else []
    with pytest.raises(UserError) as raised:
        compose_config(command, [*data, override])
    assert shown in str(raised.value)
