"""Commands as they are typed."""

import shlex
import sys

import pytest

from gpt2lab.shell import command_line


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("train.py", ["python", "prepare.py"]),
        ("/a clone/eval.py", ["python", "/a clone/prepare.py"]),
        ("/venv/bin/gpt2lab", ["gpt2lab", "prepare"]),
        ("/venv/lib/gpt2lab/cli/__main__.py", ["gpt2lab", "prepare"]),
        ("/venv/lib/ipykernel_launcher.py", ["gpt2lab", "prepare"]),
        ("", ["gpt2lab", "prepare"]),
    ],
)
def test_command_is_typed_as_this_process_was_started(monkeypatch, program, command):
    monkeypatch.setattr(sys, "argv", [program])
    assert shlex.split(command_line("prepare", "data.name=a b")) == [*command, "data.name=a b"]
