"""Tuning runs of a sweep, and runs scored document by document.

Tuning runs are shown and never pooled with the comparison.
"""

import dataclasses
import functools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from gpt2lab.report.factors import LENGTH_KEYS
from gpt2lab.report.results import Condition, DocumentRow, TuningCurve
from gpt2lab.report.words import TUNING_NOTE, plural
from gpt2lab.runs import read_lines
from gpt2lab.runs.layout import DOCUMENTS
from gpt2lab.runs.records import has_outcome, read_summary
from gpt2lab.statistics.intervals import FEW_DOCUMENTS, ratio_jackknife_interval

EVALUATION_KEYS = ("corpus", "protocol", "settings")
"""fields of ``documents.jsonl`` that are equal where two models were scored alike"""
Documents = dict[str, tuple[float, int]]
"""nats and tokens by document"""
LENGTH_OVERRIDES = tuple(f"{key}=" for key in LENGTH_KEYS)
TOLERANCE = 0.02
"""nats from the optimum that still count as near it"""


def tuning_curves(record: dict[str, Any], names: dict[str, str], baseline: str) -> list[TuningCurve]:
    """The tuning of each condition; none without. ``names`` gives the report's name for that of ``sweep.json``."""
    key = str(record.get("tuning_key") or "")
    jobs = [job for job in record.get("jobs", []) if job.get("tuning")]
    lengths = {str(job.get("condition")): _length(job) for job in record.get("jobs", []) if not job.get("tuning")}
    curves = []
    for condition, tuned in (record.get("tuning") or {}).items():
        values = list(zip(tuned["values"], tuned["mean_losses"], strict=True))
        runs = sum(job.get("condition") == condition for job in jobs)
        seeds = runs // len(values) if values else 0
        points = [(float(value), float(loss), seeds) for value, loss in sorted(values) if loss is not None]
        if points:
            curve = tuning_curve(names.get(condition, condition), key, points, tuned)
            curves.append(dataclasses.replace(curve, length=lengths.get(condition, "")))
    rates = {curve.length: curve.best for curve in curves if curve.condition == baseline}
    return [with_rate(curve, rates.get(curve.length)) for curve in curves]


def _length(job: dict[str, Any]) -> str:
    """``max_steps=400`` for a job that has its length as an axis; empty for others."""
    overrides = [str(text) for text in job.get("overrides", [])]
    return ", ".join(text.removeprefix("training.") for text in overrides if text.startswith(LENGTH_OVERRIDES))


def tuning_note(record: dict[str, Any], sweep: Path | None) -> str:
    """How the tuning was done, and whether each condition had the same of it, by the runs that have an outcome."""
    key = f"{record.get('tuning_key')}="
    done: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for job in record.get("jobs", []):
        own = tuple(text for text in job.get("overrides", []) if text.startswith((key, "seed=")))
        done[str(job.get("condition"))] |= {own} if job.get("tuning") and _has_outcome(job, sweep) else set()
    is_same = len(set(map(frozenset, done.values()))) == 1 and all(done.values())
    same = "Each condition had" if is_same else "The conditions did not all have"
    return f"{TUNING_NOTE} {same} the same values and seeds."


def missing_tuning_warnings(record: dict[str, Any], sweep: Path | None) -> list[str]:
    """Name the tuning runs that neither completed nor diverged: without them the tuning is unequal."""
    tuning = [job for job in record.get("jobs", []) if job.get("tuning")]
    missing = [str(job.get("name")) for job in tuning if not _has_outcome(job, sweep)]
    if not missing:
        return []
    return [
        f"Without a result: {len(missing)} of {plural(len(tuning), 'tuning run')} ({', '.join(missing)}). So the "
        "tuning is not the same for all conditions; continue the sweep."
    ]


def _has_outcome(job: dict[str, Any], sweep: Path | None) -> bool:
    run_dir = sweep / job["run_dir"] if sweep and job.get("run_dir") else None
    return has_outcome(run_dir, str(job.get("status")), job.get("error"))


def tuning_curve(
    condition: str, key: str, points: list[tuple[float, float, int]], tuned: dict[str, Any]
) -> TuningCurve:
    """One curve, with the value that the sweep chose and the values that are nearly as good."""
    lowest = min(loss for _, loss, _ in points)
    near = [value for value, loss, _ in points if loss <= lowest + TOLERANCE]
    return TuningCurve(condition, key, points, float(tuned["best"]), bool(tuned["at_edge"]), (min(near), max(near)))


def with_rate(curve: TuningCurve, rate: float | None) -> TuningCurve:
    """Add the validation loss at the baseline's best value, read between the tried values."""
    if rate is None or len(curve.points) < 2:
        return curve
    x = [math.log(value) for value, _, _ in curve.points]
    if not x[0] <= math.log(rate) <= x[-1]:
        return curve
    loss = float(np.interp(math.log(rate), x, [loss for _, loss, _ in curve.points]))
    return dataclasses.replace(curve, at_baseline_rate=loss)


def document_rows(conditions: list[Condition], baseline: Condition) -> list[DocumentRow]:
    """Paired differences over documents, one row for each evaluation: a document scored twice is no second document.

    The nats of each document are averaged over the seeds that the condition shares with the baseline.
    """
    rows = []
    evaluations_of = functools.cache(_evaluations)  # the baseline's are compared with every condition
    for condition in conditions:
        seeds = sorted(set(condition.values) & set(baseline.values))
        if condition is baseline or not seeds:
            continue
        sides = []
        for side in (condition, baseline):
            by_seed = {run.seed: run for run in side.runs if run.is_counted}
            sides.append([evaluations_of(by_seed[seed].path) for seed in seeds])
        for evaluation in sorted(set.intersection(*(set(found) for side in sides for found in side))):
            scores = [[found[evaluation] for found in side] for side in sides]
            row = _document_row(condition.name, evaluation, scores)
            rows += [row] if row else []
    return rows


def _document_row(condition: str, evaluation: str, sides: list[list[Documents]]) -> DocumentRow | None:
    """The difference in one evaluation; ``sides`` are those of the condition and the baseline, a list over seeds."""
    common = sorted(set.intersection(*(set(documents) for side in sides for documents in side)))
    if not common:
        return None
    condition_D, baseline_D = (
        np.mean([[documents[d][0] for d in common] for documents in side], axis=0) for side in sides
    )
    tokens_D = np.array([sides[1][0][d][1] for d in common], dtype=int)
    difference_D = condition_D - baseline_D
    ratio = float(difference_D.sum() / tokens_D.sum())
    return DocumentRow(condition, evaluation, len(common), ratio, ratio_jackknife_interval(difference_D, tokens_D))


def document_warnings(rows: list[DocumentRow]) -> list[str]:
    """Evaluations whose intervals are too narrow, because they have few documents."""
    few = {row.evaluation: row.documents for row in rows if row.documents < FEW_DOCUMENTS}
    return [
        f"Over documents{f' ({evaluation})' if evaluation else ''}: {plural(documents, 'document')}; intervals over "
        f"fewer than {FEW_DOCUMENTS} are too narrow."
        for evaluation, documents in few.items()
    ]


def _evaluations(run_dir: Path) -> dict[str, Documents]:
    """The scores of documents by evaluation of the run's last step; empty without the file.

    An evaluation is known by its text, protocol and other settings. A document that two evaluations of a file scored
    and that cannot be told apart by these, as in files older than the field ``settings``, is left out.
    """
    last_step = read_summary(run_dir).get("steps")
    found: dict[str, Documents] = defaultdict(dict)
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for number, line in enumerate(read_lines(run_dir / DOCUMENTS)):
        if line.get("step") not in (None, last_step):
            continue
        try:
            scores = float(line["nats"]), int(line["tokens"])
        except (ValueError, KeyError, TypeError):
            continue
        evaluation = ", ".join(str(line[key]) for key in EVALUATION_KEYS if key in line)
        document = str(line.get("document", number))
        ids[evaluation, document].add(str(line.get("evaluation")))
        found[evaluation][document] = scores
    for (evaluation, document), several in ids.items():
        if len(several) > 1:
            del found[evaluation][document]
    return found
