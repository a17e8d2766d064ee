"""The curves of ``report.html``: every run on grids that all runs share, small enough to be read at once.

uPlot draws series over one common x. Each run is read between its points on a grid of tokens and on one of seconds;
outside its own range it is null.
"""

from typing import Any

import numpy as np

from gpt2lab.report.results import ReportResult, Run
from gpt2lab.statistics.intervals import Array

MOST_POINTS, FEWEST_POINTS = 240, 40
ALL_POINTS = 48_000
"""of one kind of curve over all runs, which keeps the page of 200 runs below 3 MB"""


def curve_data(report: ReportResult) -> dict[str, Any]:
    """``{"conditions": [], "grids": {"val": {"tokens": x}}, "runs": [{"c": 0, "seed": 1, "val": {"tokens": y}}]}``."""
    names = [condition.name for condition in report.conditions]
    runs = [run for run in report.runs if run.is_counted]
    points = int(np.clip(ALL_POINTS // max(1, len(runs)), FEWEST_POINTS, MOST_POINTS))
    rows: list[dict[str, Any]] = [
        {"c": names.index(run.condition), "seed": run.seed, "val": {}, "train": {}} for run in runs
    ]
    grids: dict[str, dict[str, list[float]]] = {"val": {}, "train": {}}
    for loss in grids:
        for by in ("tokens", "seconds"):
            curves = [_points(run, loss, by) for run in runs]
            grid = _common_grid([x for x, _ in curves], points)
            grids[loss][by] = [round(float(x), 3 if by == "seconds" else 0) for x in grid]
            for row, (x, y) in zip(rows, curves, strict=True):
                row[loss][by] = _on_grid(grid, x, y)
    return {"conditions": names, "grids": grids, "runs": rows}


def _points(run: Run, loss: str, by: str) -> tuple[Array, Array]:
    curves = run.curves
    if loss == "val":
        return (curves.val_tokens if by == "tokens" else curves.val_seconds), curves.val_loss
    return (curves.tokens if by == "tokens" else curves.seconds), curves.loss


def _common_grid(all_x: list[Array], points: int) -> Array:
    """The runs' own points where they are few, else evenly spaced ones."""
    known = [x for x in all_x if len(x)]
    if not known:
        return np.zeros(0)
    union = np.unique(np.concatenate(known))
    if len(union) <= points:
        return union
    return np.linspace(union[0], union[-1], points)


def _on_grid(grid: Array, x: Array, y: Array) -> list[float | None]:
    if not len(x):
        return []
    if len(x) > 1 and not (np.diff(x) > 0).all():  # a clock that stands still: the last value of each x counts
        keep = np.append(np.diff(x) > 0, [True])
        x, y = x[keep], y[keep]
    values = np.interp(grid, x, y, left=np.nan, right=np.nan)
    return [None if np.isnan(value) else round(float(value), 4) for value in values]
