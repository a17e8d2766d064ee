"""Pictures of a run, from its ``metrics.jsonl``; and matplotlib, where it is installed."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

from gpt2lab.runs import read_lines
from gpt2lab.runs.layout import LOSS_PLOT, METRICS

log = logging.getLogger(__name__)


def open_pyplot(picture: str) -> Any:
    """matplotlib.pyplot for writing files; None without matplotlib, and one line says that ``picture`` is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        log.warning("no %s: matplotlib is not installed; pip install 'gpt2lab[plots]'", picture)
        return None
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt


def plot_loss(run_dir: Path) -> list[Path]:
    """Draw training and validation loss over tokens into ``loss.png``, and name it; without matplotlib, say so."""
    plt = open_pyplot(LOSS_PLOT)
    if plt is None:
        return []
    lines = read_lines(run_dir / METRICS)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for key, label, style in (("loss", "training batch", "-"), ("val_loss", "validation", "o-")):
        points = [(line["tokens"], line[key]) for line in lines if line.get(key) is not None]
        axes.plot(*zip(*points, strict=True), style, label=label, linewidth=1.2, markersize=4)
    axes.set_xlabel("tokens trained on")
    axes.set_ylabel("loss (nats a token)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(run_dir / LOSS_PLOT, dpi=150)
    plt.close(figure)
    return [run_dir / LOSS_PLOT]
