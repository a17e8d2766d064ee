"""Run directories -> ``ReportResult``.

1. Read the runs and find the factors that differ between them (``finding``, ``loading``, ``factors``).
2. Mark diverged and unfinished runs, and runs that cannot be compared (``run_status``, ``comparability``).
3. Group the rest by condition, compare each with the baseline (``compare``), and put the answer into words.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gpt2lab.config import UserError, did_you_mean
from gpt2lab.report import design
from gpt2lab.report.all_pairs import compare_pairs
from gpt2lab.report.comparability import EXEMPT, besides_warnings
from gpt2lab.report.compare import Outcomes, compare_all
from gpt2lab.report.factors import condition_name, find_factors
from gpt2lab.report.finding import find_runs
from gpt2lab.report.loading import load_run
from gpt2lab.report.metric import LOSSES, check_metric, short_study_banner
from gpt2lab.report.power import banner
from gpt2lab.report.results import Condition, ReportResult, Run
from gpt2lab.report.run_status import build_runs, run_warnings, set_apart
from gpt2lab.report.scaling import scaling_rows
from gpt2lab.report.tuning import (
    document_rows,
    document_warnings,
    missing_tuning_warnings,
    tuning_curves,
    tuning_note,
)
from gpt2lab.report.words import overall_verdict, plural
from gpt2lab.statistics.intervals import t_interval
from gpt2lab.statistics.outcomes import find_two_modes
from gpt2lab.statistics.scaling import SpeedUp, effective_speed_up

HIGHER_IS_BETTER = ("tokens_per_second",)


def analyze(
    sweep: Path | None = None,
    runs: Sequence[str] = (),
    baseline: str | None = None,
    metric: str = "val_loss",
    average: int = 1,
    margin: float = 0.01,
    allow: Sequence[str] = (),
) -> ReportResult:
    """Compare the runs of a sweep, or the given runs.

    Args:
        sweep: folder of a sweep.
        runs: in place of a sweep: run directories, sweeps, and globs of both.
        baseline: a condition's name; None: the first value of every axis.
        metric: a number in ``summary.json``.
        average: validations at the end of a run whose mean is compared, of ``val_loss``.
        margin: differences below it do not matter; in units of the metric.
        allow: facts in which compared runs may differ, such as ``commit``.

    Raises:
        UserError: no runs, no such condition, or no completed run has the metric or so many validations.
    """
    found = find_runs(sweep, runs)
    record = found.record
    loaded = [load_run(run.path, run.name, run.job) for run in found.runs]
    check_metric(loaded, metric, average)
    factors, levels, keys = find_factors(loaded, record)
    all_runs = build_runs(loaded, levels, metric, average)
    ignored = set(allow) | {fact for fact, names in EXEMPT.items() if any(name in factors for name in names)}
    all_runs, of_any_length = set_apart(all_runs, ignored)
    warnings = found.warnings + run_warnings(loaded, all_runs, metric, allow)
    conditions = sorted(_conditions(all_runs, levels), key=lambda condition: _grid_position(condition, factors))
    counted = [[run.settings for run in condition.runs if run.is_counted] for condition in conditions]
    told = [*keys, *filter(None, [record.get("tuning_key")])]
    warnings += besides_warnings([settings[0] for settings in counted if settings], told)
    if not any(condition.values or condition.diverged for condition in conditions):
        warnings.insert(0, f"No run has {metric} yet.")
    chosen = _find_baseline(conditions, factors, baseline)
    lower = metric not in HIGHER_IS_BETTER
    variants = [c for c in conditions if c is not chosen]
    outcomes = [_outcomes(c) for c in variants]
    comparisons, test = compare_all(outcomes, _outcomes(chosen), metric, margin, lower_is_better=lower)
    has_loss = metric in LOSSES
    by_length = _losses_by_length(of_any_length, chosen) if has_loss else {}
    compared = [
        dataclasses.replace(
            condition,
            comparison=comparison,
            throughput=_ratio(condition.numbers["tokens_per_second"], chosen.numbers["tokens_per_second"]),
            speed_up=_speed_up(by_length, _losses_by_length(of_any_length, condition)),
        )
        for condition, comparison in zip(variants, comparisons, strict=True)
    ]
    ordered = [chosen, *compared]
    rows_by_run = list(zip(loaded, all_runs, strict=True))
    names = {run.job["condition"]: row.condition for run, row in rows_by_run if "condition" in run.job}
    effects = design.effects(ordered, factors)
    untrained = short_study_banner([run.summary for run, row in rows_by_run if row.is_counted], metric)
    result = ReportResult(
        title=(sweep.name if sweep else f"{plural(len(all_runs), 'run')} compared"),
        metric=metric,
        margin=margin,
        lower_is_better=lower,
        baseline=chosen.name,
        verdict=overall_verdict(ordered, chosen.name, metric, margin),
        banner=" ".join(filter(None, [untrained, banner(ordered, test, margin, metric)])),
        method=[
            *design.method(ordered, chosen, test, margin, metric, average),
            *design.why_no_effects(ordered, factors),
        ],
        noise=design.noise(ordered, chosen, test, margin, metric),
        warnings=[
            *warnings,
            *design.warnings(ordered, test, margin, metric),
            *design.interaction_warnings(effects, margin),
        ],
        conditions=ordered,
        runs=sorted(
            all_runs, key=lambda run: (bool(run.apart), run.condition, run.seed if run.seed is not None else -1)
        ),
        factors=factors,
        effects=effects,
        pairs=compare_pairs([_outcomes(c) for c in ordered], test),
        tuning=tuning_curves(record, names, chosen.name),
        tuning_note=tuning_note(record, sweep),
        documents=document_rows(ordered, chosen),
        scaling=scaling_rows(ordered) if metric == "val_loss" else [],
        speed_up_note=design.NO_SPEED_UP if has_loss and len(by_length) < 2 else "",
    )
    result.warnings += document_warnings(result.documents)
    result.warnings += missing_tuning_warnings(record, sweep)
    result.warnings += [
        f"Tuning of {curve.label}: the best {curve.key} lies at the edge of the values that every seed was trained "
        "to the end with, so a better one may lie beyond; extend the values."
        for curve in result.tuning
        if curve.at_edge
    ]
    return result


def _conditions(all_runs: Sequence[Run], levels: Sequence[dict[str, str]]) -> list[Condition]:
    by_name: dict[str, list[Run]] = defaultdict(list)
    level_of = {}
    for run, own in zip(all_runs, levels, strict=True):
        by_name[run.condition].append(run)
        level_of[run.condition] = own
    conditions = []
    for name, members in by_name.items():
        counted = [run for run in members if run.is_counted]
        values = {run.seed: run.value for run in counted if run.seed is not None and run.value is not None}
        array = np.array(list(values.values()))
        names = members[0].numbers.keys()
        numbers = {key: _median([run.numbers[key] for run in counted or members]) for key in names}
        conditions.append(
            Condition(
                name=name,
                levels=level_of[name],
                runs=members,
                values=values,
                mean=float(array.mean()) if len(array) else None,
                sd=float(array.std(ddof=1)) if len(array) > 1 else None,
                interval=t_interval(array) if len(array) > 1 else None,
                diverged=sum(run.diverged for run in counted),
                unfinished=sum(not run.is_counted and not run.apart for run in members),
                numbers=numbers,
                two_modes=find_two_modes(array),
            )
        )
    return conditions


def _grid_position(condition: Condition, factors: dict[str, list[str]]) -> list[int]:
    """Index of the condition's value on every axis of the grid."""
    return [values.index(condition.levels[key]) if key in condition.levels else -1 for key, values in factors.items()]


def _outcomes(condition: Condition) -> Outcomes:
    lost = {run.seed: math.nan for run in condition.runs if run.is_counted and run.diverged and run.seed is not None}
    return Outcomes(condition.name, {**condition.values, **lost})


def _find_baseline(conditions: list[Condition], factors: dict[str, list[str]], name: str | None) -> Condition:
    by_name = {condition.name: condition for condition in conditions}
    if name is not None:
        wanted = name.replace(" ", "")
        for condition in conditions:
            if wanted in (condition.name.replace(" ", ""), ",".join(condition.levels.values())):
                return condition
        raise UserError(
            f"baseline={name}: no such condition{did_you_mean(name, by_name)}; expected one of "
            + "; ".join(list(by_name)[:8])
        )
    first = condition_name({key: values[0] for key, values in factors.items()})
    return by_name.get(first, conditions[0])


def _speed_up(baseline: dict[float, np.ndarray], variant: dict[float, np.ndarray]) -> SpeedUp | None:
    """At the longest runs of the variant whose loss the baseline reaches within its measured lengths."""
    if len(baseline) < 2:
        return None
    found = [effective_speed_up(baseline, variant[tokens], tokens) for tokens in sorted(variant, reverse=True)]
    known = [speed_up for speed_up in found if speed_up is not None]
    return next((s for s in known if 0 < s.factor < math.inf), known[0] if known else None)


def _losses_by_length(runs: Sequence[Run], condition: Condition) -> dict[float, np.ndarray]:
    found: dict[float, list[float]] = defaultdict(list)
    for run in runs:
        if run.condition == condition.name and run.value is not None and run.tokens:
            found[float(run.tokens)].append(run.value)
    return {tokens: np.array(values) for tokens, values in found.items()}


def _ratio(value: float | None, baseline: float | None) -> float | None:
    return value / baseline if value and baseline else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
