"""Plots of an evaluation, from an entry of ``eval.json``: perplexity against diversity of samples; use of context.

matplotlib is imported where it is used: it takes half a second, and most evaluations draw nothing.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2lab.files import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Bounds = Sequence[float] | None


def plot_sample_quality(metrics: dict[str, Any], folder: Path, name: str, model: str) -> list[Path]:
    """``NAME.png``: perplexity against self-BLEU, a point per decoding setting; human text is a star."""
    from matplotlib.ticker import LogLocator  # noqa: PLC0415

    by_label = {label: pair["samples"] for label, pair in metrics["settings"].items()} | {"human": metrics["human"]}
    figure, axes = _open_figure(height=5)
    for number, (label, texts) in enumerate(by_label.items()):
        x, y = texts["self_bleu_4"], texts["perplexity"]
        if x is None or y is None:  # texts without a token
            continue
        human = label == "human"
        axes.errorbar(
            x, y,
            xerr=_bars([x], [texts["intervals"]["self_bleu_4"]]), yerr=_bars([y], [texts["intervals"]["perplexity"]]),
            fmt="*" if human else "os^vDPX<>"[number % 9], markersize=16 if human else 7,
            color="black" if human else f"C{number % 10}", label=label, elinewidth=0.8, capsize=2,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("self-BLEU-4 (lower: more diverse)")
    axes.set_ylabel("perplexity under the scorer (best: as human text)")
    protocol = metrics["protocol"]
    axes.set_title(
        f"{short_name(model)}\n"
        f"{protocol['prompts']} prompts, up to {protocol['new_tokens']} tokens each; 95 % intervals",
        fontsize=10,
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return [_save(figure, folder / f"{name}.png")]


def plot_context(metrics: dict[str, Any], folder: Path, name: str, model: str) -> list[Path]:
    """``NAME.by_position.png`` and ``NAME.by_context.png``; the trained context is a dotted line."""
    trained = metrics["trained_context"]
    label = f"positions: {metrics['positions']}"

    by_position, axes = _open_figure()
    bins = metrics["by_position"]
    # positions are counted from 1: the axis is logarithmic
    middles = [((a_bin["first"] + 1) * (a_bin["last"] + 1)) ** 0.5 for a_bin in bins]
    axes.plot(middles, [a_bin["loss"] for a_bin in bins], "o-", markersize=4, label=label)
    if all(a_bin["interval"] for a_bin in bins):
        low, high = zip(*(a_bin["interval"] for a_bin in bins), strict=True)
        axes.fill_between(middles, low, high, alpha=0.2, label="95 % interval of the mean")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("position in the window (tokens read)")
    axes.set_ylabel("loss (nats per token)")
    _mark_trained_context(axes, trained)
    axes.set_title(short_name(model), fontsize=10)

    by_context, axes = _open_figure()
    contexts = [int(length) for length in metrics["by_context"]]
    of_contexts = metrics["by_context"].values()
    ratios, intervals = [entry["ratio"] for entry in of_contexts], [entry["ratio_interval"] for entry in of_contexts]
    axes.errorbar(contexts, ratios, yerr=_bars(ratios, intervals), fmt="o-", capsize=3, label=label)
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xscale("log", base=2)
    axes.set_xticks(contexts, [str(length) for length in contexts])
    axes.set_xlabel("context (tokens)")
    axes.set_ylabel(f"perplexity relative to {metrics['reference_context']} tokens of context")
    axes.set_title(f"{short_name(model)}\nthe same tokens at every context; paired 95 % intervals", fontsize=10)
    _mark_trained_context(axes, trained)
    if metrics["ends_at"] is not None:
        axes.axvline(metrics["ends_at"], color="C3", linewidth=0.8, label=f"positions end at {metrics['ends_at']}")
        axes.legend()
    return [
        _save(by_position, folder / f"{name}.by_position.png"),
        _save(by_context, folder / f"{name}.by_context.png"),
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
"""part of the evaluation -> its plots"""


def _bars(values: Sequence[float], intervals: Sequence[Bounds]) -> list[list[float]]:
    """Lengths of the error bars below and above the values."""
    bounds = [
        (value, value) if interval is None else interval for value, interval in zip(values, intervals, strict=True)
    ]
    below = [max(0.0, value - low) for value, (low, _) in zip(values, bounds, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, bounds, strict=True)]
    return [below, above]


def _mark_trained_context(axes: Any, trained: int) -> None:
    axes.axvline(trained, color="gray", linestyle=":", label=f"trained context, {trained}")
    axes.grid(alpha=0.3)
    axes.legend()


def _open_figure(height: float = 4.5) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: "Figure", path: Path) -> Path:
    return save_figure(figure, path, dpi=150)
