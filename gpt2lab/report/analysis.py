"""Run directories -> ``ReportResult``.

1. Read the runs and find the factors that differ between them (``loading``, ``factors``).
2. Set apart what cannot be compared (``comparability``), and mark diverged and unfinished runs.
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
from gpt2lab.report.comparability import EXEMPT, difference, facts_of, find_reference
from gpt2lab.report.compare import Outcomes, compare_all
from gpt2lab.report.factors import condition_name, find_factors, flatten
from gpt2lab.report.loading import LoadedRun, find_runs, is_finite, load_run
from gpt2lab.report.results import Condition, ReportResult, Run
from gpt2lab.report.tuning import document_rows, tuning_curves
from gpt2lab.report.words import overall_verdict, plural
from gpt2lab.statistics.intervals import t_interval
from gpt2lab.statistics.outcomes import find_two_modes
from gpt2lab.statistics.scaling import SpeedUp, effective_speed_up

HIGHER_IS_BETTER = ("tokens_per_second", "accuracy")


def analyse(
    sweep: Path | None = None,
    runs: Sequence[str] = (),
    baseline: str | None = None,
    metric: str = "val_loss",
    margin: float = 0.01,
    allow: Sequence[str] = (),
) -> ReportResult:
    """Compare the runs of a sweep, or the given runs.

    Args:
        sweep: folder of a sweep.
        runs: run directories, where they are no sweep.
        baseline: a condition's name; None: the first value of every axis.
        metric: a number in ``summary.json``.
        margin: differences below it do not matter; in units of the metric.
        allow: facts in which compared runs may differ, such as ``commit``.

    Raises:
        UserError: no runs, no such condition, or no run with the metric and none that could get it.
    """
    found, record = find_runs(sweep, list(runs))
    loaded = [load_run(folder, job.get("name") or folder.name, job) for folder, job in found]
    factors, levels = find_factors(loaded, record)
    table = _runs_table(loaded, levels, metric)
    ignored = set(allow) | {fact for fact, names in EXEMPT.items() if any(name in factors for name in names)}
    lengths = _set_apart(table, ignored)
    warnings = _warnings(loaded, table, metric)
    conditions = sorted(_conditions(table, levels), key=lambda condition: _place(condition, factors))
    if not any(condition.values or condition.diverged for condition in conditions):
        warnings.insert(0, f"No run has {metric} yet.")
    chosen = _find_baseline(conditions, factors, baseline)
    lower = metric not in HIGHER_IS_BETTER
    variants = [c for c in conditions if c is not chosen]
    outcomes = [_outcomes(c) for c in variants]
    comparisons, test = compare_all(outcomes, _outcomes(chosen), metric, margin, lower_is_better=lower)
    by_length = _losses_by_length(lengths, chosen)
    compared = [
        dataclasses.replace(
            condition,
            comparison=comparison,
            throughput=_ratio(condition.numbers["tokens_per_second"], chosen.numbers["tokens_per_second"]),
            speed_up=_speed_up(by_length, _losses_by_length(lengths, condition)),
        )
        for condition, comparison in zip(variants, comparisons, strict=True)
    ]
    ordered = [chosen, *compared]
    rows_by_run = zip(loaded, table, strict=True)
    names = {run.job["condition"]: row.condition for run, row in rows_by_run if "condition" in run.job}
    result = ReportResult(
        title=(sweep.name if sweep else f"{plural(len(table), 'run')} compared"),
        metric=metric,
        margin=margin,
        lower_is_better=lower,
        baseline=chosen.name,
        verdict=overall_verdict(ordered, chosen.name, metric, margin),
        banner=design.banner(ordered, margin, metric),
        method=design.method(ordered, chosen, test, margin, metric),
        noise=design.noise(ordered, chosen, margin),
        warnings=[*warnings, *design.warnings(ordered, test)],
        conditions=ordered,
        runs=sorted(table, key=lambda run: (bool(run.apart), run.condition, run.seed if run.seed is not None else -1)),
        factors=factors,
        effects=design.effects(ordered, factors),
        tuning=tuning_curves(record, names, chosen.name),
        documents=document_rows(ordered, chosen),
        speed_up_note="" if len(by_length) > 1 else design.NO_SPEED_UP,
    )
    result.warnings += [
        f"Tuning of {curve.condition}: the best {curve.key} lies at the edge of the values tried, so a better one may "
        "lie beyond; extend the values."
        for curve in result.tuning
        if curve.at_edge
    ]
    return result


def _runs_table(loaded: Sequence[LoadedRun], levels: Sequence[dict[str, str]], metric: str) -> list[Run]:
    above_unigram = [
        is_finite(run.summary.get("val_loss")) and run.summary["val_loss"] > run.summary.get("unigram_loss", math.inf)
        for run in loaded
    ]
    # where most runs end above the unigram entropy the study is short, not diverged
    rule_holds = sum(above_unigram) <= len(loaded) / 2
    rows = []
    for run, own, above in zip(loaded, levels, above_unigram, strict=True):
        value = run.summary.get(metric)
        status = str(run.summary.get("status") or run.job.get("status") or "unknown")
        completed = status == "completed"
        lost = completed and (metric in run.summary and not is_finite(value))
        reason = f"{status} {run.job.get('error')}".lower()
        stopped = status.startswith("failed") and ("diverg" in reason or "non-finite" in reason)
        diverged = lost or stopped or (completed and above and rule_holds)
        rows.append(
            Run(
                name=run.name,
                path=run.path,
                condition=condition_name(own),
                seed=_seed(run),
                status=status,
                value=float(value) if completed and not diverged and is_finite(value) and value is not None else None,
                diverged=diverged,
                tokens=run.summary.get("tokens"),
                facts=facts_of(run),
                numbers=_numbers(run),
                curves=run.curves,
                broken_lines=run.broken_lines,
                error=str(run.job.get("error") or "") or "; ".join(run.problems),
            )
        )
    return rows


def _seed(run: LoadedRun) -> int | None:
    given = run.config.get("seed")
    if given is None:
        texts = [o.removeprefix("seed=") for o in run.job.get("overrides", []) if o.startswith("seed=")]
        given = texts[0] if texts else None
    return int(given) if given is not None and str(given).isdigit() else None


def _numbers(run: LoadedRun) -> dict[str, float | None]:
    flat, summary = flatten(run.config), run.summary
    names = ("parameters", "tokens_per_second", "wall_seconds", "peak_memory_bytes")
    numbers: dict[str, float | None] = {
        name: float(summary[name]) if is_finite(summary.get(name)) else None for name in names
    }
    size, width, layers = (flat.get(f"model.{key}") for key in ("vocab_size", "n_embd", "n_layer"))
    inner = summary.get("parameters_without_embeddings")
    if inner is None and numbers["parameters"] is not None and isinstance(size, int) and isinstance(width, int):
        multiple = flat.get("model.vocab_multiple_of") or 1
        padded = math.ceil(size / multiple) * multiple
        tables = 1 if flat.get("model.tie_head", True) else 2
        positions = flat.get("model.block_size", 0) * width if flat.get("model.positions.name") == "learned" else 0
        inner = numbers["parameters"] - tables * padded * width - positions
    numbers["inner_parameters"] = inner
    context = flat.get("training.sequence_length") or flat.get("model.block_size")
    numbers["flops_per_token"] = (
        6 * (inner + size * width) + 12 * layers * width * context
        if inner is not None and isinstance(size, int) and isinstance(width, int) and layers and context
        else None
    )
    return numbers


def _set_apart(table: list[Run], ignored: set[str]) -> list[Run]:
    """Mark runs that cannot be compared; return the finished ones whose only difference is the number of tokens."""
    with_outcome = [run for run in table if run.diverged or run.value is not None]
    if not with_outcome:
        return []
    reference = find_reference([run.facts for run in with_outcome], ignored)
    lengths = []
    for index, run in enumerate(table):
        if run not in with_outcome:
            continue
        reason = difference(run.facts, reference)
        without_tokens = difference(run.facts, {k: v for k, v in reference.items() if k != "tokens"})
        if run.value is not None and not without_tokens:
            lengths.append(run)
        if reason:
            table[index] = dataclasses.replace(run, apart=reason)
    seen: dict[tuple[str, int | None], Run] = {}
    for index, run in enumerate(table):
        if not run.is_counted:
            continue
        earlier = seen.setdefault((run.condition, run.seed), run)
        if earlier is not run:
            same = "with the same result" if earlier.value == run.value else "with another result"
            table[index] = dataclasses.replace(run, apart=f"a rerun of {earlier.name} {same}; the first one counts")
    return lengths


def _warnings(loaded: Sequence[LoadedRun], table: Sequence[Run], metric: str) -> list[str]:
    warnings = []
    for run in loaded:
        if run.broken_lines:
            warnings.append(
                f"{run.name}: {plural(run.broken_lines, 'line')} of metrics.jsonl cannot be parsed, left out."
            )
        warnings += [f"{run.name}: {problem}." for problem in run.problems]
    groups: dict[str, list[str]] = defaultdict(list)
    for row in table:
        if row.apart:
            groups[row.apart].append(row.name)
        elif not row.is_counted:
            reason = f"status {row.status}" if row.status != "completed" else f"no {metric}"
            if row.error:
                reason = f"failed: {row.error}"
            groups[f"{reason}; rerun with the same seed"].append(row.name)
    for reason, names in groups.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        warnings.append(f"Not compared: {shown} ({reason}).")
    diverged = [row.name for row in table if row.diverged and not row.apart]
    if diverged:
        warnings.append(f"Diverged: {', '.join(diverged)}. A diverged run counts as the worst, it is not dropped.")
    return warnings


def _conditions(table: Sequence[Run], levels: Sequence[dict[str, str]]) -> list[Condition]:
    by_name: dict[str, list[Run]] = defaultdict(list)
    level_of = {}
    for run, own in zip(table, levels, strict=True):
        by_name[run.condition].append(run)
        level_of[run.condition] = own
    conditions = []
    for name, members in by_name.items():
        counted = [run for run in members if run.is_counted]
        values = {
            (run.seed if run.seed is not None else -1 - i): run.value
            for i, run in enumerate(counted)
            if run.value is not None
        }
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


def _place(condition: Condition, factors: dict[str, list[str]]) -> list[int]:
    """Where a condition stands in the grid: the first value of every axis comes first."""
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
