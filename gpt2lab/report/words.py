"""Sentences of a report, and numbers as they are written in it."""

import math

from gpt2lab.report.results import Condition
from gpt2lab.statistics.intervals import Interval
from gpt2lab.statistics.scaling import SpeedUp

METRIC_WORDS = {
    "val_loss": "validation loss",
    "val_bits_per_byte": "validation loss",
    "val_perplexity": "validation perplexity",
}
UNITS = {"val_loss": "nats", "val_bits_per_byte": "bits per byte", "val_perplexity": "perplexity"}

FOOTNOTE = "parameters*: without token and position embeddings."
EFFECTS_NOTE = (
    "Every effect is over the {seeds} that all cells have. "
    "A main effect is averaged over the other factors. An interaction is how much one effect changes with the other "
    "factor; where it is large, read the conditions, not the main effects. p is by Holm, intervals are by Bonferroni "
    "and wider, so that one may hold 0 where p is below 0.05."
)
PAIRS_NOTE = (
    "p and intervals hold for all pairs together ({test}); pairs that share fewer than two seeds have none. This is a "
    "family of its own, for studies without a baseline: decide before the runs whether it or the comparison with the "
    "baseline counts."
)
SCALING_NOTE = (
    "N: parameters, embeddings included, each model trained on equally many tokens for each of them. The curve has "
    "three numbers, fitted by least squares to the mean of each size; intervals by parametric bootstrap over seeds. It "
    "says nothing of sizes outside the measured ones."
)
TUNING_NOTE = (
    "Tuning is by val_loss (nats per token), whatever the report compares. Tuning seeds are not among the comparison "
    "seeds."
)
DOCUMENTS_NOTE = (
    "Intervals over documents show how much these trained models could differ on other texts. Intervals over seeds, "
    "above, show how much other training runs of the same recipes could differ. The two are never combined."
)


def number(value: float | None, digits: int = 4) -> str:
    """A fixed number of digits; an en dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """With its sign."""
    return "–" if value is None or math.isnan(value) else f"{value:+.{digits}f}".replace("-", "−")


def interval_text(interval: Interval | None) -> str:
    """``[−0.0123, +0.0045]``."""
    return "–" if interval is None else f"[{signed(interval[0])}, {signed(interval[1])}]"


def p_text(p: float | None) -> str:
    """Three digits; ``< 0.001`` below."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """``p = 0.012`` or ``p < 0.001``, for a sentence."""
    return f"p {p_text(p)}" if p < 0.001 else f"p = {p_text(p)}"


def count(value: float | None) -> str:
    """With an SI letter: 124M, 17.9k."""
    if value is None:
        return "–"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def speed_up_text(speed_up: SpeedUp | None) -> str:
    """``2.00 [1.80, 2.20] at 819k tokens``, those of the condition; a side of the measured lengths outside them."""
    if speed_up is None:
        return "–"

    def one(factor: float) -> str:
        return {0.0: "below the shortest", math.inf: "above the longest"}.get(factor, f"{factor:.2f}")

    inner = f" [{one(speed_up.interval[0])}, {one(speed_up.interval[1])}]" if speed_up.interval else ""
    return f"{one(speed_up.factor)}{inner} at {count(speed_up.tokens)} tokens"


def plural(n: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def overall_verdict(conditions: list[Condition], baseline: str, metric: str, margin: float) -> str:
    """The first sentence of the report."""
    compared = [c for c in conditions if c.comparison is not None]
    if not compared:
        return f"There is nothing to compare: all runs belong to one condition, {baseline}."
    with_outcome = [c.name for c in conditions if c.values or c.diverged]
    if len(with_outcome) < 2:
        return f"Nothing to compare yet: {f'only {with_outcome[0]}' if with_outcome else 'no condition'} has a result."
    if baseline not in with_outcome:
        return f"Nothing to compare yet: the baseline, {baseline}, has no result."
    groups: dict[str, list[str]] = {}
    for condition in compared:
        assert condition.comparison is not None
        groups.setdefault(condition.comparison.verdict, []).append(condition.name)
    if len(compared) == 1:
        assert compared[0].comparison is not None
        return compared[0].comparison.sentence
    unit = UNITS.get(metric, metric)
    if set(groups) == {"undecided"}:
        return f"Undecided: this study cannot tell any of the {len(compared)} other conditions from {baseline}."
    words = {
        "better": f"better than {baseline}",
        "worse": f"worse than {baseline}",
        "equivalent": f"equivalent to {baseline} within ±{margin:g} {unit}",
        "undecided": f"undecided against {baseline}",
    }
    parts = [
        f"{_listed(groups[verdict])} {'is' if len(groups[verdict]) == 1 else 'are'} {words[verdict]}"
        for verdict in ("better", "worse", "equivalent", "undecided")
        if verdict in groups
    ]
    return ". ".join(parts) + "."


def _listed(names: list[str]) -> str:
    if len(names) > 4:
        return f"{'; '.join(names[:3])}; and {len(names) - 3} more conditions"
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])}; and {names[-1]}"
