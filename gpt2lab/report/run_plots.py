"""The plot of one run, from its ``metrics.jsonl``."""

from pathlib import Path

from matplotlib.figure import Figure

from gpt2lab.files import save_figure
from gpt2lab.runs import read_lines
from gpt2lab.runs.layout import LOSS_PLOT, METRICS


def plot_loss(run_dir: Path) -> list[Path]:
    """Draw training and validation loss over tokens into ``loss.png``; return the files."""
    lines = read_lines(run_dir / METRICS)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for key, label, style in (("loss", "training batch", "-"), ("val_loss", "validation", "o-")):
        shown = [line for line in lines if line.get(key) is not None]
        tokens, losses = [line["tokens"] for line in shown], [line[key] for line in shown]
        axes.plot(tokens, losses, style, label=label, linewidth=1.2, markersize=4)
    axes.set_xlabel("tokens trained on")
    axes.set_ylabel("loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    return [save_figure(figure, run_dir / LOSS_PLOT, dpi=150)]
