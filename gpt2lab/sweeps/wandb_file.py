"""A sweep as a W&B sweep file, for those who start its jobs with W&B's agents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gpt2lab.config import UserError
from gpt2lab.sweeps.plan import Plan


def write_wandb_file(path: Path, plan: Plan, program: Sequence[str]) -> str:
    """Write the file; return the commands that use it.

    Args:
        path: file to write; one that is there is never replaced.
        plan: the axes become parameters of a grid.
        program: what a user types to train, without arguments.

    Raises:
        UserError: the file already exists.
    """
    if path.exists():
        raise UserError(f"sweep.wandb_file={path}: already exists; expected a new file; try another name")
    logger = [] if any(text.startswith("logger=") for text in plan.common) else ["logger=wandb"]
    values: dict[str, Any] = {
        "method": "grid",
        "metric": {"name": "val_loss", "goal": "minimize"},
        "parameters": {key: {"values": list(map(_plain, axis))} for key, axis in plan.axes.items()},
        "command": ["${env}", *program, *logger, *plan.common, "${args_no_hyphens}"],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return f"written to {path}; type: wandb sweep {path}\nand, on each machine, the line wandb agent ... that it prints"


def _plain(value: str) -> str | int | float:
    """A value as W&B is to write it into the command: what was typed; ``null`` would come back as Python's None."""
    parsed = yaml.safe_load(value)
    return parsed if isinstance(parsed, int | float) and str(parsed) == value else value
