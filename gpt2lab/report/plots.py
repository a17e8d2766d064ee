"""The plots of a report as PNG and SVG files."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from gpt2lab.files import save_figure
from gpt2lab.report.results import Condition, ReportResult
from gpt2lab.report.scaling import is_bad_fit
from gpt2lab.report.words import UNITS
from gpt2lab.statistics.intervals import Array

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F6A00", "#666666")
"""Okabe and Ito (2008), told apart by color-blind readers; yellow, too pale for lines, replaced"""
GRID_POINTS = 160
STYLE: dict[Any, Any] = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "axes.axisbelow": True, "svg.hashsalt": "gpt2lab", "legend.frameon": False,
}  # fmt: skip


def write_plots(report: ReportResult, folder: Path) -> list[Path]:
    """Draw every plot that has data; return the PNG files."""
    drawers: dict[str, Callable[[ReportResult], Figure | None]] = {
        "differences": plot_differences,
        "loss_by_tokens": lambda r: plot_curves(r, "tokens"),
        "loss_by_time": lambda r: plot_curves(r, "seconds"),
        "scaling": plot_scaling,
        "tuning": plot_tuning,
    }
    written = []
    with mpl.rc_context(STYLE):
        for name, draw in drawers.items():
            figure = draw(report)
            if figure is None:
                continue
            written.append(save_figure(figure, folder / f"{name}.png", dpi=150))
            save_figure(figure, folder / f"{name}.svg", metadata={"Date": None})
    return written


def _open(height: float = 4.2) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, figure.add_subplot()


def plot_differences(report: ReportResult) -> Figure | None:
    """Differences of each seed as dots, how many diverged, mean and simultaneous interval, and the margin as a band."""
    compared = [c for c in report.conditions if c.comparison and (c.comparison.seeds or c.comparison.interval)]
    if not compared:
        return None
    figure, axes = _open(1.6 + 0.55 * len(compared))
    axes.axvspan(-report.margin, report.margin, color="#999999", alpha=0.18, lw=0, label=f"margin ±{report.margin:g}")
    axes.axvline(0, color="#444444", lw=1)
    for row, condition in enumerate(compared):
        c = condition.comparison
        assert c is not None
        finite = [d for d in c.differences if np.isfinite(d)]
        color = PALETTE[(row + 1) % len(PALETTE)]
        axes.plot(finite, [row + 0.16] * len(finite), "o", ms=4, color=color, alpha=0.55)
        if c.mean is not None:
            axes.plot([c.mean], [row - 0.08], "D", ms=6, color=color)
        if c.interval:
            axes.plot(c.interval, [row - 0.08] * 2, color=color, lw=2.2)
        _mark_diverged(axes, row + 0.16, c.differences, lower_is_better=report.lower_is_better)
    axes.set_yticks(range(len(compared)), [c.name for c in compared])
    axes.set_ylim(len(compared) - 0.5, -0.5)
    axes.set_xlabel(f"{report.metric} minus that of {report.baseline} ({UNITS.get(report.metric, report.metric)})")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _mark_diverged(axes: Any, y: float, differences: Sequence[float], *, lower_is_better: bool) -> None:
    """Count the seeds without a finite difference at the edges of the plot, on the side of the worse."""
    across = axes.get_yaxis_transform()  # x is a share of the width
    for infinite, x, marker, side in ((math.inf, 1, ">", "right"), (-math.inf, 0, "<", "left")):
        diverged = sum(d == infinite for d in differences)
        if diverged:
            whose = "" if (infinite > 0) == lower_is_better else " (baseline)"
            axes.plot([x], [y], marker, ms=6, color="#444444", transform=across, clip_on=False)
            axes.text(
                x, y + 0.06, f"  {diverged} diverged{whose}  ", transform=across, ha=side, va="top", fontsize=8,
                color="#444444",
            )  # fmt: skip


def plot_curves(report: ReportResult, by: str) -> Figure | None:
    """Validation loss of each condition: mean over seeds, and a band from the lowest to the highest seed."""
    figure, axes = _open()
    drawn = 0
    lowest, highest = np.inf, -np.inf
    for number, condition in enumerate(report.conditions):
        band = seed_band(condition, by)
        if band is None:
            continue
        x, low, mean, high = band
        color = PALETTE[number % len(PALETTE)]
        style = "-" if number < len(PALETTE) else "--"
        scaled = x / (60 if by == "seconds" else 1)
        axes.fill_between(scaled, low, high, color=color, alpha=0.18, lw=0)
        axes.plot(scaled, mean, style, color=color, lw=1.6, label=condition.name)
        lowest, highest = min(lowest, low.min()), max(highest, float(np.quantile(high, 0.9)))
        drawn += 1
    if not drawn:
        return None
    if highest > lowest:
        axes.set_ylim(lowest - 0.03 * (highest - lowest), highest + 0.05 * (highest - lowest))
    axes.set_xlabel("tokens trained on" if by == "tokens" else "minutes of training")
    axes.set_ylabel("validation loss (nats per token)")
    if drawn <= 2 * len(PALETTE):
        axes.legend(fontsize=8, ncols=1 + drawn // 9)
    return figure


def seed_band(condition: Condition, by: str) -> tuple[Array, Array, Array, Array] | None:
    """Lowest, mean and highest validation loss over the condition's runs, at common values of x."""
    curves = [run.curves for run in condition.runs if run.is_counted and len(run.curves.val_loss) > 1]
    pairs = [((c.val_tokens if by == "tokens" else c.val_seconds), c.val_loss) for c in curves]
    pairs = [(x, y) for x, y in pairs if np.isfinite(x).all() and x[-1] > x[0]]
    if not pairs:
        return None
    first = pairs[0][0]
    if all(len(x) == len(first) and (x == first).all() for x, _ in pairs):
        grid = first
    else:
        grid = np.linspace(max(x[0] for x, _ in pairs), min(x[-1] for x, _ in pairs), GRID_POINTS)
    losses_RX = np.array([np.interp(grid, x, y) for x, y in pairs])
    return grid, losses_RX.min(axis=0), losses_RX.mean(axis=0), losses_RX.max(axis=0)


def plot_scaling(report: ReportResult) -> Figure | None:
    """Mean loss by parameters, and the fitted curve; a broken line is a bad fit."""
    if not report.scaling:
        return None
    figure, axes = _open()
    for number, row in enumerate(report.scaling):
        color = PALETTE[number % len(PALETTE)]
        sizes, losses = zip(*row.points, strict=True)
        axes.plot(sizes, losses, "o", color=color, label=row.name or "mean over seeds")
        if row.fit:
            bad = is_bad_fit(row.fit)
            grid = np.geomspace(sizes[0], sizes[-1], GRID_POINTS)
            label = f"N^−{row.fit.curve.exponent:.3f}{' (bad fit)' if bad else ''}"
            axes.plot(grid, [row.fit.curve.loss(size) for size in grid], "--" if bad else "-", color=color, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("parameters")
    axes.set_ylabel("validation loss (nats per token)")
    axes.legend(fontsize=8)
    return figure


def plot_tuning(report: ReportResult) -> Figure | None:
    """The mean validation loss over the tuned value, for each condition; the chosen value is a diamond."""
    if not report.tuning:
        return None
    figure, axes = _open()
    for number, curve in enumerate(report.tuning):
        color = PALETTE[number % len(PALETTE)]
        label = curve.label + (" (edge)" if curve.at_edge else "")
        values, losses = [p[0] for p in curve.points], [p[1] for p in curve.points]
        axes.plot(values, losses, "o-", ms=4, color=color, label=label)
        chosen = float(np.interp(np.log(curve.best), np.log(values), losses))
        axes.plot([curve.best], [chosen], "D", ms=8, color=color, markerfacecolor="none")
    axes.set_xscale("log")
    tried = sorted({point[0] for curve in report.tuning for point in curve.points})
    axes.set_xticks(tried, [f"{value:g}" for value in tried])
    axes.minorticks_off()
    axes.set_xlabel(report.tuning[0].key)
    axes.set_ylabel("val_loss (nats per token)")
    axes.legend(fontsize=8)
    return figure
