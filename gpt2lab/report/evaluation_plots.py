"""Plots of an evaluation, from an entry of ``eval.json``: quality against diversity of samples; use of the context."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpt2lab.report.run_plots import open_pyplot

Interval = Sequence[float] | None


def plot_sample_quality(figures: dict[str, Any], folder: Path, name: str, model: str) -> list[Path]:
    """``NAME.png``: perplexity against self-BLEU, a point per decoding setting; human text is a star."""
    plt = open_pyplot(f"{name}.png")
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
    axes.set_xlabel("self-BLEU-4 (lower: more diverse)")
    axes.set_ylabel("perplexity under the scorer (best: as human text)")
    protocol = figures["protocol"]
    axes.set_title(
        f"{short_name(model)}\n"
        f"{protocol['prompts']} prompts, up to {protocol['new_tokens']} tokens each; 95 % intervals",
        fontsize=10,
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return [_save(plt, figure, folder / f"{name}.png")]


def plot_context(figures: dict[str, Any], folder: Path, name: str, model: str) -> list[Path]:
    """``NAME.by_position.png`` and ``NAME.by_context.png``; the trained context is a dotted line."""
    plt = open_pyplot(f"{name}.by_position.png, {name}.by_context.png")
    if plt is None:
        return []
    trained = figures["trained_context"]
    label = f"positions: {figures['positions']}"

    by_position, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    bins = figures["by_position"]
    # counted from 1, for the logarithm
    middles = [((part["first"] + 1) * (part["last"] + 1)) ** 0.5 for part in bins]
    axes.plot(middles, [part["loss"] for part in bins], "o-", markersize=4, label=label)
    if all(part["interval"] for part in bins):
        low, high = zip(*(part["interval"] for part in bins), strict=True)
        axes.fill_between(middles, low, high, alpha=0.2, label="95 % interval of the mean")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("position in the window (tokens read)")
    axes.set_ylabel("loss (nats per token)")
    _mark(axes, trained)

    axes.set_title(short_name(model), fontsize=10)

    by_context, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    contexts = [int(length) for length in figures["by_context"]]
    parts = list(figures["by_context"].values())
    ratios, intervals = [part["ratio"] for part in parts], [part["ratio_interval"] for part in parts]
    axes.errorbar(contexts, ratios, yerr=_bars(ratios, intervals), fmt="o-", capsize=3, label=label)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xscale("log", base=2)
    axes.set_xticks(contexts, [str(length) for length in contexts])
    axes.set_xlabel("context (tokens)")
    axes.set_ylabel(f"perplexity relative to {figures['reference_context']} tokens of context")
    axes.set_title(f"{short_name(model)}\nthe same tokens at every context; paired 95 % intervals", fontsize=10)
    _mark(axes, trained)
    if figures["ends_at"] is not None:
        axes.axvline(figures["ends_at"], color="C3", linewidth=0.8, label=f"positions end at {figures['ends_at']}")
        axes.legend()
    return [
        _save(plt, by_position, folder / f"{name}.by_position.png"),
        _save(plt, by_context, folder / f"{name}.by_context.png"),
    ]


def short_name(model: str) -> str:
    """A model's origin without the folders above its run: ``DAY/TIME-ID, step 800``."""
    path, comma, rest = model.partition(", ")
    folders = path.partition("/checkpoints")[0].split("/")
    return "/".join(folders[-2:]) + comma + rest


PLOTS: dict[str, Callable[[dict[str, Any], Path, str, str], list[Path]]] = {
    "sample_quality": plot_sample_quality,
    "context": plot_context,
}
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
