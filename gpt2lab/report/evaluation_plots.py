"""Pictures of an evaluation, from the figures that ``eval.json`` has: quality over diversity; use of the context."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpt2lab.report.run_plots import open_pyplot

Interval = Sequence[float] | None


def plot_quality(figures: dict[str, Any], folder: Path) -> list[Path]:
    """``quality.png``: perplexity over self-BLEU, a point a decoding setting, and the human text's as a star."""
    plt = open_pyplot("quality.png")
    if plt is None:
        return []
    named = {label: pair["samples"] for label, pair in figures["settings"].items()} | {"human": figures["human"]}
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for number, (label, these) in enumerate(named.items()):
        x, y = these["self_bleu_4"], these["perplexity"]
        if x is None or y is None:  # texts without a token
            continue
        human = label == "human"
        axes.errorbar(
            x, y,
            xerr=_bars([x], [these["intervals"]["self_bleu_4"]]), yerr=_bars([y], [these["intervals"]["perplexity"]]),
            fmt="*" if human else "os^vDPX<>"[number % 9], markersize=16 if human else 7,
            color="black" if human else f"C{number % 10}", label=label, elinewidth=0.8, capsize=2,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(plt.matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("self-BLEU-4 (to the left: more diverse)")
    axes.set_ylabel("perplexity under the scorer (nearest to human is best)")
    protocol = figures["protocol"]
    axes.set_title(f"{protocol['prompts']} prompts, up to {protocol['new_tokens']} tokens each, 95 % intervals")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return [_save(plt, figure, folder / "quality.png")]


def plot_context(figures: dict[str, Any], folder: Path) -> list[Path]:
    """``loss_by_position.png`` and ``perplexity_by_context.png``; the trained context is a dotted line."""
    plt = open_pyplot("loss_by_position.png, perplexity_by_context.png")
    if plt is None:
        return []
    trained = figures["trained_context"]
    name = f"positions: {figures['positions']}"

    by_position, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    bins = figures["by_position"]
    # counted from 1, for the logarithm
    middles = [((part["first"] + 1) * (part["last"] + 1)) ** 0.5 for part in bins]
    axes.plot(middles, [part["loss"] for part in bins], "o-", markersize=4, label=name)
    if all(part["interval"] for part in bins):
        low, high = zip(*(part["interval"] for part in bins), strict=True)
        axes.fill_between(middles, low, high, alpha=0.2, label="95 % of the mean")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("tokens of the window read")
    axes.set_ylabel("loss (nats a token)")
    _mark(axes, trained)

    by_context, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    contexts = [int(length) for length in figures["by_context"]]
    values = [part["token_perplexity"] for part in figures["by_context"].values()]
    reference = figures["by_context"][str(figures["reference_context"])]["token_perplexity"]
    paired = [part["ratio_interval"] for part in figures["by_context"].values()]
    scaled = [None if bounds is None else [bound * reference for bound in bounds] for bounds in paired]
    axes.errorbar(contexts, values, yerr=_bars(values, scaled), fmt="o-", capsize=3, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(contexts, [str(length) for length in contexts])
    axes.set_xlabel("context (tokens)")
    axes.set_ylabel("token perplexity of the same tokens")
    axes.set_title(f"bars: 95 % of the ratio to context {figures['reference_context']}")
    _mark(axes, trained)
    if figures["ends_at"] is not None:
        axes.axvline(figures["ends_at"], color="C3", linewidth=0.8, label=f"positions end at {figures['ends_at']}")
        axes.legend()
    return [
        _save(plt, by_position, folder / "loss_by_position.png"),
        _save(plt, by_context, folder / "perplexity_by_context.png"),
    ]


PLOTS: dict[str, Callable[[dict[str, Any], Path], list[Path]]] = {"sampling": plot_quality, "context": plot_context}
"""by the names of ``eval.parts``"""


def _bars(values: Sequence[float], intervals: Sequence[Interval]) -> list[list[float]]:
    """How far the intervals reach below and above the values, as matplotlib takes it."""
    bounds = [
        (value, value) if interval is None else interval for value, interval in zip(values, intervals, strict=True)
    ]
    below = [max(0.0, value - low) for value, (low, _) in zip(values, bounds, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, bounds, strict=True)]
    return [below, above]


def _mark(axes: Any, trained: int) -> None:
    axes.axvline(trained, color="grey", linestyle=":", label=f"trained context, {trained}")
    axes.grid(alpha=0.3)
    axes.legend()


def _save(plt: Any, figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
