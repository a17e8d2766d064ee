"""A job of several processes on this machine."""

import sys
from pathlib import Path

from gpt2lab.distributed import launch


def own_command(name: str) -> list[str]:
    """Program and first arguments that run the command ``name`` again, as this process was started."""
    script = Path(sys.argv[0])
    if script.suffix == ".py" and script.name != "__main__.py":
        return [str(script)]
    return ["--module", "gpt2lab.cli", name]


def launch_processes(num_processes: int, name: str, arguments: list[str]) -> None:
    """Run ``name`` in several processes; a ``RankFailedError`` if one of them fails."""
    launch(num_processes, [*own_command(name), *arguments])
