"""TensorBoard event files in ``tensorboard/`` of the run directory."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2lab.runs.layout import TENSORBOARD
from gpt2lab.training.loggers.base import Line, Logger, prefixed

EVALUATION_SUFFIX = ".eval"
"""ending of the name of an event file that an evaluation wrote"""


class TensorBoardLogger(Logger):
    """Scalars, samples, configuration, summary and plots; a resumed run writes its whole history anew.

    The files of evaluations stay: their metrics are nowhere else in it.
    """

    def start(self, run_id: str, history: Sequence[Line], samples: Sequence[Line]) -> None:
        """See ``Logger.start``."""
        folder = self.run.run_dir / TENSORBOARD
        for file in folder.glob("events.*"):
            if not file.name.endswith(EVALUATION_SUFFIX):
                file.unlink()
        self.writer = _open_writer(folder)
        self._add_json("config", {**self.run.config, "resolved": self.run.resolved})
        for line in history:
            self.log(line)
        self.log_samples(samples)

    def log(self, line: Line) -> None:
        """See ``Logger.log``."""
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float):
                self.writer.add_scalar(prefixed(name), value, line["step"])

    def log_samples(self, samples: Sequence[Line]) -> None:
        """See ``Logger.log_samples``."""
        for line in samples:
            self.writer.add_text("samples", f"```\n{line['prompt']}{line['text']}\n```", line["step"])

    def finish(self, summary: dict[str, Any], plots: Sequence[Path]) -> None:
        """See ``Logger.finish``."""
        self._add_json("summary", summary)
        for plot in plots:
            self._add_image(f"plots/{plot.stem}", plot, summary.get("steps", 0))
        self.writer.close()

    def _add_json(self, name: str, values: dict[str, Any]) -> None:
        self.writer.add_text(name, f"```json\n{json.dumps(values, indent=2)}\n```")

    def _add_image(self, name: str, path: Path, step: int) -> None:
        from matplotlib.image import imread  # noqa: PLC0415

        self.writer.add_image(name, imread(path)[..., :3], step, dataformats="HWC")


def log_evaluation(run_dir: Path, metrics: Mapping[str, float], step: int | None) -> None:
    """Add an evaluation's metrics, named ``eval/...``, to the event files of a training run that has ended."""
    writer = _open_writer(run_dir / TENSORBOARD, EVALUATION_SUFFIX)
    for name, value in metrics.items():
        writer.add_scalar(f"eval/{name}", value, step)
    writer.close()


def _open_writer(folder: Path, suffix: str = "") -> Any:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

    return SummaryWriter(folder, filename_suffix=suffix)
