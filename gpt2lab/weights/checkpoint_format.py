"""gpt2lab's own checkpoints: null | run folder | checkpoint folder -> checkpoint folder."""

from pathlib import Path
from typing import ClassVar

from gpt2lab.checkpoint import MANIFEST, follow_link, has_checkpoint, last_checkpoint, newest_run
from gpt2lab.config import UserError
from gpt2lab.model import GPT
from gpt2lab.runs.layout import RUNS
from gpt2lab.shell import command_line
from gpt2lab.weights.parameter_map import MappedTensor, TensorFormat, as_it_is, vocabulary_rows

WEIGHTS = "model.safetensors"
"""the model's part of a checkpoint"""


class CheckpointFormat(TensorFormat):
    """The model's own names and layouts."""

    EMBEDDING: ClassVar = "wte.weight"
    HEAD: ClassVar = "lm_head.weight"

    def parameter_map(self, model: GPT) -> dict[str, MappedTensor]:
        """See ``TensorFormat``; padding rows are left out."""
        mapping = {}
        for name, parameter in model.named_parameters():
            view = vocabulary_rows if name in (self.EMBEDDING, self.HEAD) else as_it_is
            (mapping[name],) = view(parameter.data, model.config)
        return mapping


def is_run_or_checkpoint(folder: Path) -> bool:
    """Return whether a folder is a checkpoint, or a run that has one."""
    return (folder / MANIFEST).is_file() or has_checkpoint(folder)


def find_checkpoint(where: str | None, key: str) -> Path:
    """Return the checkpoint folder of a run folder, a checkpoint folder or None (the newest run), for ``key``.

    Raises:
        UserError: there is none.
    """
    folder = follow_link(Path(where)) if where else newest_run()
    if folder is None:
        raise UserError(f"{key}=null: no run with a checkpoint below {RUNS}/; type {command_line('train')} first")
    if not folder.is_dir():
        raise UserError(f"{key}={where}: no such folder; expected a run or checkpoint folder")
    if (folder / MANIFEST).is_file():
        return folder.resolve()
    if (checkpoint := last_checkpoint(folder)) is not None:
        return checkpoint.resolve()
    raise UserError(f"{folder}: expected {MANIFEST} (a checkpoint) or checkpoints/step_* (a run), found neither")
