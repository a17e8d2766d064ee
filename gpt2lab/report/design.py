"""What a report says of the study itself: noise floor, pairing, method, factorial effects."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from gpt2lab.report.comparability import circumstances, first
from gpt2lab.report.compare import ALPHA, DUNNETT, SIGNED_RANKS, WELCH
from gpt2lab.report.factors import condition_name
from gpt2lab.report.metric import LOSSES
from gpt2lab.report.power import power_of, tested_comparisons
from gpt2lab.report.results import Condition, EffectRow
from gpt2lab.report.words import UNITS, number, p_equals, plural, signed
from gpt2lab.statistics.blocks import factorial_effects
from gpt2lab.statistics.multiple import bonferroni_critical, holm
from gpt2lab.statistics.paired import smallest_sign_flip_p

MOST_SENTENCES = 4
"""comparisons that get a sentence each on noise; of more only the noisiest does, the table has all"""
CHAOTIC = 0.2
"""below this correlation over seeds, pairing fails"""
FEWEST_FOR_R = 5
"""seeds; with 3, r is below 0.2 in 30 % and 19 % of studies whose true correlation is 0.5 and 0.7"""
NO_SPEED_UP = (
    "Effective speed-up needs runs of several lengths: add training.max_steps as an axis, so that the baseline "
    "finishes its schedule at two lengths or more; an interval takes three, with two seeds each."
)


def method(
    conditions: Sequence[Condition], baseline: Condition, test: str, margin: float, metric: str, average: int = 1
) -> list[str]:
    """Design and test in sentences."""
    compared = [c for c in conditions if c.comparison]
    facts = [run.facts for c in conditions for run in c.runs if run.is_counted and run.value is not None]
    unit = UNITS.get(metric, metric)
    when = "at the end of training" if average == 1 else f"as the mean of each run's last {average} validations"
    lines = [f"The baseline is {baseline.name}. The compared value is {metric} {when} ({unit}){circumstances(facts)}."]
    if not compared:
        return lines
    seeds = sorted({len(c.comparison.seeds) for c in compared if c.comparison})
    many = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    unpaired = [c.name for c in compared if c.comparison and c.comparison.test == WELCH]
    lines.append(f"Runs of one seed are paired. {plural(len(compared), 'comparison')}, {many} paired seeds each.")
    paired = [c for c in compared if c.comparison and c.comparison.test != WELCH]
    if any(set(c.comparison.seeds) < {*c.values, *baseline.values} for c in paired if c.comparison):
        lines.append("A difference is over the paired seeds alone, a mean over all of its condition.")
    if unpaired:
        lines.append(f"Compared as independent runs, by Welch's t: {'; '.join(unpaired)}.")
    if test == SIGNED_RANKS:
        lines.append(
            "At least one run diverged. The primary test is Wilcoxon's signed ranks with a diverged run as the worst, "
            "p adjusted by Holm; differences and intervals are conditional on both runs of a seed finishing."
        )
    elif test == DUNNETT and len(compared) == 1:
        lines.append("With one comparison, p and interval are those of the paired t test over seeds.")
    elif test == DUNNETT:
        lines.append(
            "The grid is complete and the paired differences spread alike: one residual is pooled over all conditions "
            "(condition + seed), p and intervals are Dunnett's for all comparisons with the baseline together."
        )
    else:
        lines.append(
            "The grid is not complete, or the paired differences spread too unequally to be pooled: paired t for each "
            "condition, p adjusted by Holm, intervals by Bonferroni, which are somewhat wider than the test."
        )
    lines.append(
        f"Equivalent means that the 90 % interval lies inside ±{margin:g} (two one-sided tests), for each comparison "
        "alone. Undecided does not mean equal."
    )
    fewest = min(seeds)
    if fewest >= 2 and smallest_sign_flip_p(fewest) > 0.05:
        lines.append(
            f"With {fewest} seeds the exact sign-flip test cannot reach 0.05 (its smallest p is "
            f"{smallest_sign_flip_p(fewest):.4g}); 6 seeds could."
        )
    return lines


def noise(conditions: Sequence[Condition], baseline: Condition, test: str, margin: float, metric: str) -> list[str]:
    """The noise floor and what can be detected."""
    lines = []
    if baseline.sd is not None:
        lines.append(
            f"Noise floor: the baseline alone, over {len(baseline.values)} seeds, has a standard deviation of "
            f"{number(baseline.sd)}."
        )
    unigram, bigram = baseline.numbers.get("unigram_loss"), baseline.numbers.get("bigram_loss")
    if metric == "val_loss" and unigram is not None and bigram is not None:
        lines.append(
            f"For scale: on these texts token frequencies alone score {number(unigram)} nats, a bigram model "
            f"{number(bigram)}."
        )
    compared = [c for c in conditions if c.comparison and c.comparison.sd is not None]
    tested = tested_comparisons([c.comparison for c in conditions if c.comparison])
    if test == DUNNETT and len(compared) > 1:
        pooled = next(c.comparison.test_sd for c in compared if c.comparison)
        lines.append(
            f"The test pools the noise of all conditions: sd of the paired differences {number(pooled)}. Detectable "
            "difference and seeds needed follow from it."
        )
    shown = compared if len(compared) <= MOST_SENTENCES else [max(compared, key=_spread)]
    for condition in shown:
        c = condition.comparison
        assert c is not None
        assert c.sd is not None
        text = (
            f"{condition.name}: sd of the paired differences {number(c.sd)}, r = {number(c.correlation, 2)}, "
            f"sd_d / (√2 sd) = {number(c.pairing, 2)}"
        )
        lines.append(f"{text}; {power_of(c, test, tested, margin)}.")
    return lines


def warnings(conditions: Sequence[Condition], test: str, margin: float, metric: str) -> list[str]:
    """Chaotic pairing, two modes, few seeds, divergence, tests that disagree."""
    found = _chaos(conditions, margin) if metric in LOSSES else _unpaired(conditions)
    for condition in conditions:
        c = condition.comparison
        if condition.two_modes:
            m = condition.two_modes
            found.append(
                f"{condition.name}: two kinds of outcome, {m.lower} and {m.upper} runs with a gap of {number(m.gap)} "
                "between them; mean and standard deviation describe neither."
            )
        if len(condition.values) == 1 and not condition.diverged:
            found.append(f"{condition.name}: one seed, so no interval and no test.")
        if c is None:
            continue
        if c.test == WELCH:
            shared = plural(len(c.seeds), "seed") if c.seeds else "no seed"
            found.append(
                f"{condition.name}: {shared} in common with the baseline, compared as independent runs, by Welch's t."
            )
        elif not c.seeds:
            found.append(f"{condition.name}: no seed in common with the baseline, not compared.")
        if c.fisher_p is not None:
            diverged, runs = condition.diverged, condition.diverged + len(condition.values)
            found.append(f"{condition.name}: {diverged} of {runs} runs diverged (Fisher's exact p = {c.fisher_p:.3f}).")
        if c.interval and c.own_interval and _disagree(c.interval, c.own_interval) and test == DUNNETT:
            found.append(
                f"{condition.name}: the pooled and its own paired interval disagree about zero; its own is "
                f"[{c.own_interval[0]:+.4f}, {c.own_interval[1]:+.4f}]."
            )
    return found


def interaction_warnings(effects: Sequence[EffectRow], margin: float) -> list[str]:
    """Interactions that forbid reading the main effects alone: found, and larger than the margin."""
    large = [e for e in effects if e.is_interaction and e.p < ALPHA and abs(e.mean) > margin]
    return [
        f"Interaction {effect.name} ({signed(effect.mean)}, {p_equals(effect.p)}): the effect of one factor depends "
        "on the other, so read the conditions, not the main effects."
        for effect in large
    ]


def _spread(condition: Condition) -> float:
    c = condition.comparison
    return c.sd if c is not None and c.sd is not None else 0.0


def _chaos(conditions: Sequence[Condition], margin: float) -> list[str]:
    """Warnings for conditions whose results do not correlate with the baseline's over seeds, noisy or calm."""
    unrelated = _unrelated(conditions)
    noisy = [c for c in unrelated if _spread(c) > margin]
    calm = [c for c in unrelated if c not in noisy]
    chaotic = {c.name: c.comparison.correlation for c in noisy if c.comparison}
    found = [
        f"Pairing gains nothing for {c.name} (r = {number(c.comparison.correlation, 2)} over seeds); its noise is "
        f"small anyway: the paired differences have a standard deviation of {number(c.comparison.sd)}."
        for c in calm
        if c.comparison
    ]
    if not chaotic:
        return found
    named = "; ".join(f"{name} ({number(r, 2)})" for name, r in chaotic.items())
    seeds = max(len(c.values) for c in noisy)
    if seeds < FEWEST_FOR_R:
        return [
            *found,
            f"Pairing gained nothing over {seeds} seeds: r is below {CHAOTIC} for {named}. So few seeds say little of "
            f"r; whether training is chaotic takes {FEWEST_FOR_R} or more.",
        ]
    return [
        *found,
        f"Pairing fails, training is chaotic: r over seeds is below {CHAOTIC} for {named}. A calmer recipe, such as a "
        "longer warm-up, saves more than extra seeds.",
    ]


def _unpaired(conditions: Sequence[Condition]) -> list[str]:
    """Warnings for a metric that is no loss, so that its noise says nothing of the training."""
    return [
        f"Pairing gains nothing for {c.name} (r = {number(c.comparison.correlation, 2)} over seeds)."
        for c in _unrelated(conditions)
        if c.comparison
    ]


def _unrelated(conditions: Sequence[Condition]) -> list[Condition]:
    return [c for c in conditions if c.comparison and c.comparison.correlation < CHAOTIC]


def _disagree(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return (first[0] > 0 or first[1] < 0) != (second[0] > 0 or second[1] < 0)


def effects(conditions: Sequence[Condition], factors: dict[str, list[str]]) -> list[EffectRow]:
    """Main effects and interactions where the grid of two or more factors is complete and no run diverged."""
    varied = {key: values for key, values in factors.items() if len(values) > 1}
    if len(varied) < 2 or why_no_effects(conditions, factors):
        return []
    by_levels, cells, seeds = _cells(conditions, varied)
    shape = [len(values) for values in varied.values()]
    y_grid = np.array([[by_levels[cell].values[s] for s in seeds] for cell in cells]).reshape(*shape, len(seeds))
    found = factorial_effects(y_grid)
    adjusted = holm([effect.p for effect in found])
    keys = list(varied)
    rows = []
    for effect, p in zip(found, adjusted, strict=True):
        parts = [
            f"{keys[f]}: {varied[keys[f]][level]} − {varied[keys[f]][0]}"
            for f, level in zip(effect.factors, effect.levels, strict=True)
        ]
        name = parts[0] if len(parts) == 1 else " × ".join(f"({part})" for part in parts)
        critical = bonferroni_critical(len(found), effect.difference.df)
        interval = effect.difference.interval(critical)
        rows.append(EffectRow(name, effect.difference.mean, interval, p, len(parts) > 1, len(seeds)))
    return rows


def why_no_effects(conditions: Sequence[Condition], factors: dict[str, list[str]]) -> list[str]:
    """Why a study of two factors or more has no main effects, in a sentence; empty where it has, or has one factor."""
    varied = {key: values for key, values in factors.items() if len(values) > 1}
    if len(varied) < 2:
        return []
    by_levels, cells, seeds = _cells(conditions, varied)
    names = {cell: condition_name(dict(zip(varied, cell, strict=True))) for cell in cells}
    missing = [name for cell, name in names.items() if cell not in by_levels or not by_levels[cell].runs]
    lost = [name for cell, name in names.items() if cell in by_levels and by_levels[cell].diverged]
    if missing:
        reason = f"{plural(len(missing), 'combination')} of the factors without a run ({first(missing, 2, '; ')})"
    elif lost:
        reason = f"diverged runs in {first(lost, 2, '; ')}"
    elif len(seeds) < 2:
        reason = f"{plural(len(seeds), 'seed')} that all combinations of the factors have; it takes two"
    else:
        return []
    return [f"Main effects and interactions are left out: {reason}."]


def _cells(
    conditions: Sequence[Condition], varied: dict[str, list[str]]
) -> tuple[dict[tuple[str | None, ...], Condition], list[tuple[str, ...]], list[int]]:
    """The conditions by their levels, all cells of the grid, and the seeds that all cells have."""
    by_levels = {tuple(c.levels.get(key) for key in varied): c for c in conditions}
    cells = list(itertools.product(*varied.values()))
    values = [set(by_levels[cell].values) if cell in by_levels else set() for cell in cells]
    return by_levels, cells, sorted(set.intersection(*values))


def heat_map(
    conditions: Sequence[Condition], factors: dict[str, list[str]]
) -> tuple[list[str], list[str], list[list[float]]] | None:
    """Row labels, column labels and mean values of a grid of exactly two factors; NaN where a cell is missing."""
    varied = {key: values for key, values in factors.items() if len(values) > 1}
    if len(varied) != 2:
        return None
    (row_key, rows), (column_key, columns) = varied.items()
    means = {(c.levels.get(row_key), c.levels.get(column_key)): c.mean for c in conditions}
    values = [[float(m) if (m := means.get((r, c))) is not None else math.nan for c in columns] for r in rows]
    return [f"{row_key}={r}" for r in rows], [f"{column_key}={c}" for c in columns], values
