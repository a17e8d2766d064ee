"""Drawings of ``report.html`` in SVG: coordinates in percent, so that text keeps its size at every width."""

import html
import math

import numpy as np

from gpt2lab.report.design import heat_map
from gpt2lab.report.results import Comparison, ReportResult, TuningCurve
from gpt2lab.report.words import UNITS, number, signed

ROW = 42
"""height of a row of the forest plot in pixels"""


def forest(report: ReportResult) -> str:
    """Differences of each seed as dots above their mean and simultaneous interval; the margin is shaded."""
    rows = [
        (i, c, c.comparison)
        for i, c in enumerate(report.conditions)
        if c.comparison and (c.comparison.seeds or c.comparison.interval)
    ]
    if not rows:
        return ""
    reach = [v for _, _, c in rows for v in (*c.differences, *(c.interval or ())) if math.isfinite(v)]
    low, high = min([-report.margin, *reach]), max([report.margin, *reach])
    pad = 0.05 * (high - low)
    low, high = low - pad, high + pad
    drawn = "".join(
        f'<div class="row"><div class="label">{html.escape(condition.name)}</div>'
        f'<div class="draw">{_forest_row(c, index, low, high, report)}</div>'
        f'<div class="pill"><span class="verdict {c.verdict}">{c.verdict}</span></div></div>'
        for index, condition, c in rows
    )
    better = "lower is better" if report.lower_is_better else "higher is better"
    unit = UNITS.get(report.metric, report.metric)
    ticks = "".join(
        f'<span style="left:{_percent(tick, low, high)}">{_tick(tick)}</span>' for tick in _ticks(low, high)
    )
    return (
        f'<div class="card forest">{drawn}<div class="row scale"><div class="label"></div><div class="draw">'
        f'<div class="ticks">{ticks}</div><div class="axis">{unit}, {better}; shaded: margin ±{report.margin:g}</div>'
        f'</div><div class="pill"></div></div></div>'
    )


def _forest_row(c: Comparison, index: int, low: float, high: float, report: ReportResult) -> str:
    color = f"var(--c{index % 8})"
    margin = report.margin
    left, width = _percent(-margin, low, high), f"{100 * 2 * margin / (high - low):.2f}%"
    zero = _percent(0, low, high)
    parts = [
        f'<rect x="{left}" y="0" width="{width}" height="{ROW}" fill="var(--shade)"/>',
        f'<line x1="{zero}" x2="{zero}" y1="0" y2="{ROW}" stroke="var(--faint)"/>',
    ]
    for seed, d in zip(c.seeds, c.differences, strict=True):
        if math.isfinite(d):
            parts.append(
                f'<circle cx="{_percent(d, low, high)}" cy="13" r="3.5" fill="{color}" fill-opacity=".5">'
                f"<title>seed {seed}: {signed(d)}</title></circle>"
            )
    for infinite, at, anchor, mark in ((math.inf, "100%", "end", "{} ▸"), (-math.inf, "0%", "start", "◂ {}")):
        seeds = [str(seed) for seed, d in zip(c.seeds, c.differences, strict=True) if d == infinite]
        if seeds:
            whose = "this condition" if (infinite > 0) == report.lower_is_better else "the baseline"
            parts.append(
                f'<text x="{at}" y="18" text-anchor="{anchor}" fill="var(--bad)" font-size="14">'
                f"{mark.format(len(seeds))}<title>{whose} diverged: seed {', '.join(seeds)}</title></text>"
            )
    if c.interval:
        a, b = (_percent(bound, low, high) for bound in c.interval)
        parts.append(
            f'<line x1="{a}" x2="{b}" y1="29" y2="29" stroke="{color}" stroke-width="3" stroke-linecap="round"/>'
        )
    if c.mean is not None:
        parts.append(
            f'<circle cx="{_percent(c.mean, low, high)}" cy="29" r="5.5" fill="{color}" stroke="var(--card)" '
            f'stroke-width="2"><title>mean {signed(c.mean)}</title></circle>'
        )
    return f'<svg height="{ROW}" role="img" aria-label="mean {signed(c.mean)}">{"".join(parts)}</svg>'


def heat(report: ReportResult) -> str:
    """Mean of each cell of a grid of two factors; the lower, the stronger the color."""
    grid = heat_map(report.conditions, report.factors)
    if grid is None:
        return ""
    rows, columns, values = grid
    known = [v for row in values for v in row if not math.isnan(v)]
    if not known:
        return ""
    low, high = min(known), max(known)
    label, cell = 38.0, 62.0 / len(columns)
    parts = [
        f'<text class="key" x="{label + cell * (j + 0.5):.2f}%" y="16" text-anchor="middle">{html.escape(name)}</text>'
        for j, name in enumerate(columns)
    ]
    for i, row in enumerate(values):
        y = 26 + 44 * i
        parts.append(f'<text class="key" x="0" y="{y + 26}">{html.escape(rows[i])}</text>')
        for j, value in enumerate(row):
            share = 0.0 if math.isnan(value) or high == low else (high - value) / (high - low)
            share = share if report.lower_is_better else 1 - share
            x = label + cell * j
            parts.append(
                f'<rect x="{x:.2f}%" y="{y}" width="{cell - 0.6:.2f}%" height="40" rx="5" fill="var(--c0)" '
                f'fill-opacity="{0.08 + 0.5 * share:.2f}"/><text x="{x + cell / 2:.2f}%" y="{y + 25}" '
                f'text-anchor="middle">{number(value)}</text>'
            )
    height = 26 + 44 * len(rows)
    return (
        f'<h3>Mean {html.escape(report.metric)} of each cell</h3><div class="card heat">'
        f'<svg height="{height}" role="img" aria-label="mean of each cell">{"".join(parts)}</svg></div>'
    )


def tuning(report: ReportResult) -> str:
    """One small plot for each condition, on common scales; the ring is the chosen value."""
    losses = [loss for curve in report.tuning for _, loss, _ in curve.points]
    values = [math.log(value) for curve in report.tuning for value, _, _ in curve.points]
    colors = {condition.name: i for i, condition in enumerate(report.conditions)}
    bounds = (min(values), max(values), min(losses), max(losses))
    plots = "".join(_tuning_plot(curve, colors.get(curve.condition, 7), bounds) for curve in report.tuning)
    return f'<div class="two tuning">{plots}</div>'


def _tuning_plot(curve: TuningCurve, index: int, bounds: tuple[float, float, float, float]) -> str:
    x0, x1, y0, y1 = bounds
    height, color = 150, f"var(--c{index % 8})"

    def x(value: float) -> str:
        return f"{4 + 92 * (math.log(value) - x0) / ((x1 - x0) or 1):.2f}%"

    def y(loss: float) -> float:
        return 12 + (height - 24) * (y1 - loss) / ((y1 - y0) or 1)

    lines = "".join(
        f'<line x1="{x(a[0])}" y1="{y(a[1]):.1f}" x2="{x(b[0])}" y2="{y(b[1]):.1f}" stroke="{color}" stroke-width="2"/>'
        for a, b in zip(curve.points, curve.points[1:], strict=False)
    )
    dots = "".join(
        f'<circle cx="{x(v)}" cy="{y(loss):.1f}" r="3.5" fill="{color}"><title>{v:g}: {loss:.4f}</title></circle>'
        for v, loss, _ in curve.points
    )
    logs = [math.log(v) for v, _, _ in curve.points]
    chosen = float(np.interp(math.log(curve.best), logs, [loss for _, loss, _ in curve.points]))
    ring = (
        f'<circle cx="{x(curve.best)}" cy="{y(chosen):.1f}" r="8" fill="none" stroke="{color}" stroke-width="2">'
        f"<title>chosen {curve.best:g}</title></circle>"
    )
    ticks = "".join(f'<span style="left:{x(v)}">{v:g}</span>' for v, _, _ in curve.points)
    edge = " · at the edge" if curve.at_edge else ""
    caption = f"{html.escape(curve.label)} <small>chosen {curve.best:g}{edge}</small>"
    return (
        f'<figure class="card"><figcaption>{caption}</figcaption><svg height="{height}" role="img" '
        f'aria-label="tuning curve">{lines}{dots}{ring}</svg><div class="ticks">{ticks}</div>'
        f'<div class="axis">{html.escape(curve.key)}; val_loss {y0:.3f} to {y1:.3f} nats per token</div></figure>'
    )


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * (value - low) / (high - low):.2f}%"


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between the bounds."""
    rough = (high - low) / 5
    size = 10 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _tick(value: float) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:+.6f}".rstrip("0").rstrip(".").replace("-", "−")
