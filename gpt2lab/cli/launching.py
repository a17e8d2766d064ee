"""How this process starts gpt2lab again: the processes of a job, and the jobs of a sweep."""

import importlib
import sys
from pathlib import Path


def is_script(program: str) -> bool:
    """Whether ``program`` is a file such as train.py; else it is the console script or ``python -m gpt2lab.cli``."""
    return program.endswith(".py") and Path(program).name != "__main__.py"


def python_arguments(name: str, program: str) -> list[str]:
    """Arguments on which Python runs the command ``name`` again, as ``program`` did."""
    return [program] if is_script(program) else ["-m", "gpt2lab.cli", name]


def typed_command(name: str, program: str) -> list[str]:
    """What a user types to run the command ``name``."""
    return ["python", program] if is_script(program) else ["gpt2lab", name]


def launch_processes(num_processes: int, name: str, arguments: list[str]) -> None:
    """Run ``name`` in several processes on this machine; a ``RankFailedError`` if one of them fails."""
    launch = importlib.import_module("gpt2lab.distributed").launch  # torch: not before it is needed
    launch(num_processes, [*python_arguments(name, sys.argv[0]), *arguments])
