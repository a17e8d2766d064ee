"""Tables and picture of this study, from the evaluations of a sweep's runs.

    python experiments/context_fill/analyze.py runs/sweeps/context_fill experiments/context_fill

Reads ``eval.json`` of each run, which ``eval.py checkpoint=SWEEP`` wrote with ``eval=context`` and
``eval=sample_quality``; writes ``context.csv``, one line per run and measurement, prints the tables, and draws
``context.png``. Losses are in nats per token. Intervals are 95 %, t over seeds.
"""

import csv
import json
import math
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from gpt2lab.runs import read_run
from gpt2lab.statistics.intervals import t_interval

Losses = dict[tuple[str, str, str, int], dict[int, float]]
"""by positions, training lengths, kind and value: the loss of each seed

Kinds: context (value: tokens of it), offset (value: position of the first token), generated (value: tokens of the
prompt; the scorer's loss on samples minus that on what humans wrote after the same prompts).
"""


def read_losses(sweep: Path) -> Losses:
    """The losses of every completed run of the sweep."""
    losses: Losses = defaultdict(dict)
    for path in sorted(sweep.glob("*/eval.json")):
        config = read_run(path.parent).config
        lengths = "random" if config["data"]["random_lengths"] else "full"
        evaluations = json.loads(path.read_text())["evaluations"]
        context = next(evaluation for evaluation in evaluations if evaluation["part"] == "context")
        for kind, field in (("context", "by_context"), ("offset", "by_offset")):
            for value, summary in context[field].items():
                losses[config["model"]["positions"]["name"], lengths, kind, int(value)][config["seed"]] = summary[
                    "loss"
                ]
        for evaluation in (evaluation for evaluation in evaluations if evaluation["part"] == "sample_quality"):
            (setting,) = evaluation["settings"].values()
            sampled, human = (setting[side]["perplexity"] for side in ("samples", "human_of_equal_lengths"))
            prompt = evaluation["protocol"]["prompt_tokens"]
            name = config["model"]["positions"]["name"], lengths, "generated", prompt
            losses[name][config["seed"]] = math.log(sampled / human)
    return losses


def paired(a: dict[int, float], b: dict[int, float]) -> str:
    """Mean of a - b over the seeds that both have, with its interval."""
    differences = np.array([a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())])
    interval = t_interval(differences)
    bounds = "" if interval is None else f" [{interval[0]:+.3f}, {interval[1]:+.3f}]"
    return f"{differences.mean():+.3f}{bounds}"


def print_tables(losses: Losses, trained: int) -> None:
    """Loss by context, what a partly filled context costs, and what a shifted one does."""
    conditions = sorted({key[:2] for key in losses})
    contexts, offsets = (sorted({key[3] for key in losses if key[2] == kind}) for kind in ("context", "offset"))
    print("| tokens of context | " + " | ".join(f"{positions}, {lengths}" for positions, lengths in conditions) + " |")
    print("|---" * (len(conditions) + 1) + "|")
    for value in contexts:
        cells = [losses.get((*condition, "context", value)) for condition in conditions]
        print(f"| {value} | " + " | ".join(f"{np.mean(list(c.values())):.3f}" if c else "" for c in cells) + " |")
    gap = "(learned - rope) here - at the trained context"
    print(f"\n| tokens of context | random - full, learned | random - full, rope | {gap} |")
    print("|---|---|---|---|")
    at = {name: losses[name, "full", "context", trained] for name in ("learned", "rope")}
    for value in (value for value in contexts if value <= trained):
        full = {name: losses[name, "full", "context", value] for name in ("learned", "rope")}
        cells = [paired(losses[name, "random", "context", value], full[name]) for name in ("learned", "rope")]
        costs = [{seed: full[name][seed] - at[name][seed] for seed in full[name]} for name in ("learned", "rope")]
        print(f"| {value} | {cells[0]} | {cells[1]} | {paired(*costs)} |")
    print("\n| window begins at position | " + " | ".join(f"{p}, {lengths}" for p, lengths in conditions) + " |")
    print("|---" * (len(conditions) + 1) + "|")
    for value in offsets[1:]:
        pairs = [(losses.get((*c, "offset", value)), losses[(*c, "offset", 0)]) for c in conditions]
        print(f"| {value} | " + " | ".join(paired(there, start) if there else "" for there, start in pairs) + " |")
    print_generated(losses, conditions)


def print_generated(losses: Losses, conditions: list[tuple[str, str]]) -> None:
    """Excess loss of samples by the length of the prompt, and how it differs from the longest prompt's."""
    prompts = sorted({key[3] for key in losses if key[2] == "generated"})
    print("\n| trained with | " + " | ".join(f"prompt of {value}" for value in prompts), end=" | ")
    print(" | ".join(f"{value} minus {prompts[-1]}" for value in prompts[:-1]) + " |")
    print("|---" * (2 * len(prompts)) + "|")
    for condition in conditions:
        by_prompt = [losses[(*condition, "generated", value)] for value in prompts]
        means = [f"{np.mean(list(by_seed.values())):.3f}" for by_seed in by_prompt]
        costs = [paired(by_seed, by_prompt[-1]) for by_seed in by_prompt[:-1]]
        print(f"| {', '.join(condition)} | " + " | ".join([*means, *costs]) + " |")


def write_csv(losses: Losses, path: Path) -> None:
    """One line per run and measurement."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["positions", "training_lengths", "seed", "kind", "value", "loss"])
        for (positions, lengths, kind, value), by_seed in sorted(losses.items()):
            for seed, loss in sorted(by_seed.items()):
                writer.writerow([positions, lengths, seed, kind, value, f"{loss:.5f}"])


def draw(losses: Losses, trained: int, path: Path) -> None:
    """Loss by context on the left, by first position on the right: means over seeds."""
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    colors = {"learned": "tab:orange", "rope": "tab:blue", "alibi": "tab:green"}
    for axis, kind, label in zip(
        axes, ("context", "offset"), ("tokens of context", "position of the window's first token"), strict=True
    ):
        for positions, lengths in sorted({key[:2] for key in losses}):
            values = sorted(key[3] for key in losses if key[:3] == (positions, lengths, kind))
            means = [np.mean(list(losses[positions, lengths, kind, value].values())) for value in values]
            style = "-" if lengths == "full" else "--"
            axis.plot(
                values,
                means,
                style,
                marker="o",
                color=colors[positions],
                label=f"{positions}, trained on {lengths} windows",
            )
        axis.set_xlabel(label)
        axis.axvline(trained, color="gray", linewidth=0.8)
    contexts = sorted({key[3] for key in losses if key[2] == "context"})
    axes[0].set_xscale("log", base=2)
    axes[0].set_xticks(contexts, [str(value) for value in contexts])
    axes[0].set_ylabel("loss, nats per token")
    axes[1].legend(fontsize=8, loc="upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """The command line of the docstring."""
    sweep, out = map(Path, sys.argv[1:3])
    losses, trained = read_losses(sweep), 128
    print_tables(losses, trained)
    write_csv(losses, out / "context.csv")
    draw(losses, trained, out / "context.png")


if __name__ == "__main__":
    main()
