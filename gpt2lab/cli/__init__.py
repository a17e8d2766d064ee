"""Hydra and the shell: from a command line to a job, and from its end to an exit status."""

import importlib.util
import sys

NEEDED = ("hydra", "torch", "numpy", "yaml")

for _name in NEEDED:
    if importlib.util.find_spec(_name) is None:
        print(
            f"error: the package {_name} is not installed for {sys.executable}; expected gpt2lab's environment; "
            "type source .venv/bin/activate, or make setup if there is none",
            file=sys.stderr,
        )
        sys.exit(2)
