"""Tuning runs of a sweep, and runs scored document by document.

Tuning runs are shown and never pooled with the comparison.
"""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

from gpt2lab.report.results import Condition, DocumentRow, TuningCurve
from gpt2lab.runs import read_lines
from gpt2lab.runs.layout import DOCUMENTS
from gpt2lab.runs.records import read_summary
from gpt2lab.statistics.intervals import ratio_jackknife_interval

DOCUMENT_KEYS = ("corpus", "protocol", "settings", "document")
"""fields of ``documents.jsonl`` that are equal where two models were scored alike on one document"""
TOLERANCE = 0.02
"""nats from the optimum that still count as near it"""


def tuning_curves(record: dict[str, Any], names: dict[str, str], baseline: str) -> list[TuningCurve]:
    """The tuning of each condition; none without. ``names`` gives the report's name for that of ``sweep.json``."""
    key = str(record.get("tuning_key") or "")
    jobs = [job for job in record.get("jobs", []) if job.get("tuning")]
    curves = []
    for condition, tuned in (record.get("tuning") or {}).items():
        values = list(zip(tuned["values"], tuned["mean_losses"], strict=True))
        runs = sum(job.get("condition") == condition for job in jobs)
        seeds = runs // len(values) if values else 0
        points = [(float(value), float(loss), seeds) for value, loss in sorted(values) if loss is not None]
        if points:
            curves.append(tuning_curve(names.get(condition, condition), key, points, tuned))
    rate = next((curve.best for curve in curves if curve.condition == baseline), None)
    return [with_rate(curve, rate) for curve in curves]


def tuning_curve(
    condition: str, key: str, points: list[tuple[float, float, int]], tuned: dict[str, Any]
) -> TuningCurve:
    """One curve, with the value that the sweep chose and the values that are nearly as good."""
    lowest = min(loss for _, loss, _ in points)
    near = [value for value, loss, _ in points if loss <= lowest + TOLERANCE]
    return TuningCurve(condition, key, points, float(tuned["best"]), bool(tuned["at_edge"]), (min(near), max(near)))


def with_rate(curve: TuningCurve, rate: float | None) -> TuningCurve:
    """Add the metric at the baseline's best value, read between the tried values."""
    if rate is None or len(curve.points) < 2:
        return curve
    x = [math.log(value) for value, _, _ in curve.points]
    if not x[0] <= math.log(rate) <= x[-1]:
        return curve
    loss = float(np.interp(math.log(rate), x, [loss for _, loss, _ in curve.points]))
    return dataclasses.replace(curve, at_baseline_rate=loss)


def document_rows(conditions: list[Condition], baseline: Condition) -> list[DocumentRow]:
    """Paired differences over documents, the nats of each document averaged over the seeds in common."""
    rows = []
    documents_of = functools.cache(_documents)  # the baseline's are compared with every condition
    for condition in conditions:
        seeds = sorted(set(condition.values) & set(baseline.values))
        if condition is baseline or not seeds:
            continue
        sides = []
        for side in (condition, baseline):
            by_seed = {run.seed: run for run in side.runs if run.is_counted}
            sides.append([documents_of(by_seed[seed].path) for seed in seeds])
        common = set.intersection(*(set(documents) for side in sides for documents in side))
        if not common:
            continue
        order = sorted(common)
        nats = [np.mean([[documents[k][0] for k in order] for documents in side], axis=0) for side in sides]
        tokens = np.array([sides[1][0][k][1] for k in order], dtype=int)
        difference = nats[0] - nats[1]
        interval = ratio_jackknife_interval(difference, tokens)
        rows.append(DocumentRow(condition.name, len(order), float(difference.sum() / tokens.sum()), interval))
    return rows


def _documents(run_dir: Path) -> dict[str, tuple[float, int]]:
    """Nats and tokens by document and evaluation of the run's last step; empty without the file.

    An evaluation is known by its text, protocol and other settings. Where two of a file cannot be told apart by these,
    as in files older than the field ``settings``, both are left out.
    """
    last_step = read_summary(run_dir).get("steps")
    found: dict[str, tuple[float, int]] = {}
    evaluations: dict[str, set[str]] = {}
    for number, line in enumerate(read_lines(run_dir / DOCUMENTS)):
        if line.get("step") not in (None, last_step):
            continue
        try:
            scores = float(line["nats"]), int(line["tokens"])
        except (ValueError, KeyError, TypeError):
            continue
        key = "/".join(str(line[k]) for k in DOCUMENT_KEYS if k in line) or str(number)
        evaluations.setdefault(key, set()).add(str(line.get("evaluation")))
        found[key] = scores
    return {key: scores for key, scores in found.items() if len(evaluations[key]) == 1}
