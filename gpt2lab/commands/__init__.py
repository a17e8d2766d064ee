"""Each command as a function: job in, typed result out; no Hydra, no ``sys.argv``.

    from gpt2lab import compose_config
    from gpt2lab.commands import train

    result = train(compose_config("train", ["training.max_steps=100"]))

A function is imported when it is first asked for, so that one command does not wait for the packages of another.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt2lab.commands.evaluation import evaluate
    from gpt2lab.commands.explaining import explain
    from gpt2lab.commands.exporting import export
    from gpt2lab.commands.preparation import prepare
    from gpt2lab.commands.reporting import report
    from gpt2lab.commands.sampling import sample
    from gpt2lab.commands.training import train

__all__ = ["evaluate", "explain", "export", "prepare", "report", "sample", "train"]

_MODULES = {
    "evaluate": "evaluation",
    "explain": "explaining",
    "export": "exporting",
    "prepare": "preparation",
    "report": "reporting",
    "sample": "sampling",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
