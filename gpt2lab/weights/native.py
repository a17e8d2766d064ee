"""gpt2lab's own checkpoints: from what a user types after ``checkpoint=`` to a model.

null | run folder | checkpoint folder -> checkpoint folder -> verified manifest -> config, model
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt2lab.checkpoint import MANIFEST, list_checkpoints, one_line, read_part, verify_checkpoint
from gpt2lab.config import ModelConfig, TrainJob, UserError, from_dict, to_dict
from gpt2lab.model import GPT

RUNS = Path("runs")


@dataclass(frozen=True)
class OpenCheckpoint:
    """A model and where it came from."""

    model: GPT
    job: TrainJob
    """the configuration it was trained with"""
    data_fingerprint: str
    """of the prepared set it was trained on"""
    step: int
    folder: Path
    """the checkpoint's folder"""

    @property
    def run_dir(self) -> Path:
        """The run the checkpoint belongs to."""
        return self.folder.parent.parent


def open_checkpoint(where: str | None, device: torch.device) -> OpenCheckpoint:
    """Load the model of a run (its last checkpoint), of a checkpoint, or (None) of the newest run; in evaluation mode.

    Raises:
        UserError: there is no such checkpoint, or it is damaged.
    """
    folder = find_checkpoint(where, "checkpoint")
    manifest = verify_checkpoint(folder)
    job = from_dict(TrainJob, manifest["config"])
    with torch.device("meta"):
        model = GPT(job.model)
    model.to_empty(device=device)
    _load_state(model, folder, manifest)
    return OpenCheckpoint(model.eval(), job, manifest["data_fingerprint"], manifest["step"], folder)


def load_weights(model: GPT, where: str) -> Path:
    """Copy the weights, and nothing else, of a run or checkpoint into ``model``; return the checkpoint's folder.

    Raises:
        UserError: no such checkpoint, damaged, or of another architecture (the differing keys are named).
    """
    folder = find_checkpoint(where, "init_from")
    manifest = verify_checkpoint(folder)
    require_same_model(manifest, model.config, folder)
    _load_state(model, folder, manifest)
    return folder


def require_same_model(manifest: dict[str, Any], config: ModelConfig, folder: Path) -> None:
    """Raise ``UserError`` naming the keys in which a checkpoint's architecture differs from ``config``."""
    saved, wanted = manifest["config"]["model"], to_dict(config)
    # dropout belongs to the training, not to the weights
    differing = [
        f"model.{key}={wanted[key]} (the checkpoint has {saved.get(key)})"
        for key in wanted
        if key != "dropout" and wanted[key] != saved.get(key)
    ]
    if differing:
        raise UserError(f"{folder} is of another architecture: {', '.join(differing)}")


def find_checkpoint(where: str | None, key: str) -> Path:
    """The checkpoint folder meant by a run folder, a checkpoint folder or None (the newest run), for ``key``."""
    folder = Path(where) if where else newest_run(RUNS)
    if folder is None:
        raise UserError(f"checkpoint=null: no run with a checkpoint below {RUNS}/; run python train.py first")
    if not folder.is_dir():
        raise UserError(f"{key}={where}: no such folder; expected a run or checkpoint folder")
    if (folder / MANIFEST).is_file():
        return folder.resolve()
    if (folder / "checkpoints" / "last").is_dir():
        return (folder / "checkpoints" / "last").resolve()
    raise UserError(f"{folder}: expected {MANIFEST} (a checkpoint) or checkpoints/last (a run), found neither")


def newest_run(runs: Path) -> Path | None:
    """The run folder below ``runs`` whose last checkpoint was written last."""
    links = [link for link in runs.glob("**/checkpoints/last") if list_checkpoints(link.parent)]
    newest = max(links, key=lambda link: link.stat().st_mtime, default=None)
    return newest.parent.parent if newest else None


def _load_state(model: GPT, folder: Path, manifest: dict[str, Any]) -> None:
    try:
        model.load_state_dict(read_part(folder, manifest, "model"))
    except RuntimeError as error:
        raise UserError(f"{folder}: {one_line(error)}") from error
