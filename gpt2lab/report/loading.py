"""Run directories -> ``LoadedRun``: settings, outcome, and curves reduced while they are read."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpt2lab.config import UserError
from gpt2lab.report.results import Curves
from gpt2lab.runs.layout import CONFIG, ENVIRONMENT, METRICS, SUMMARY
from gpt2lab.runs.records import START_STEP, Line, parse_lines, read_config, read_object, written_at_each_start
from gpt2lab.statistics.intervals import Array

POINTS = 240
"""of a curve, after downsampling"""


@dataclass(frozen=True)
class LoadedRun:
    """The files of a run directory."""

    path: Path
    name: str
    config: dict[str, Any]
    """of its last start"""
    environment: dict[str, Any]
    """of its last start"""
    summary: dict[str, Any]
    curves: Curves
    validations: list[tuple[float | None, float | None]]
    """tokens trained on and loss of every validation, in order; None for a non-finite loss"""
    broken_lines: int
    problems: list[str]
    job: dict[str, Any]
    """its entry in sweep.json; empty without one"""
    earlier_configs: list[dict[str, Any]] = field(default_factory=list)
    """of the starts before the last, where the run was resumed"""
    earlier_environments: list[dict[str, Any]] = field(default_factory=list)


def load_run(folder: Path, name: str, job: dict[str, Any]) -> LoadedRun:
    """Read one run; what cannot be read is named in ``problems``."""
    problems: list[str] = []
    configs = []
    for path in written_at_each_start(folder / CONFIG):
        try:
            configs.append(read_config(path))
        except UserError as error:
            problems.append(str(error))
    environments = [_object_or_problem(path, problems) for path in written_at_each_start(folder / ENVIRONMENT)]
    configs, environments = _since_step_0(configs, environments)
    summary = _object_or_problem(folder / SUMMARY, problems)
    lines, broken = parse_lines(folder / METRICS)
    return LoadedRun(
        path=folder,
        name=name,
        config=configs[-1] if configs else {},
        environment=environments[-1] if environments else {},
        summary=summary,
        curves=curves_of(lines),
        validations=validations_of(lines),
        broken_lines=broken,
        problems=problems,
        job=job,
        earlier_configs=configs[:-1],
        earlier_environments=environments[:-1],
    )


def _since_step_0(
    configs: list[dict[str, Any]], environments: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of the starts that made the run: one that ended before its first checkpoint left nothing in it."""
    if len(configs) != len(environments):  # one is missing or damaged, so which belong together is not known
        return configs, environments
    first = max((n for n, environment in enumerate(environments) if environment.get(START_STEP) == 0), default=0)
    return configs[first:], environments[first:]


def _object_or_problem(path: Path, problems: list[str]) -> dict[str, Any]:
    """The object in a JSON file; a damaged one is added to ``problems``."""
    try:
        return read_object(path)
    except UserError as error:
        problems.append(str(error))
        return {}


def curves_of(lines: list[Line]) -> Curves:
    """Training loss in bins of tokens, and validation loss as it is, both with seconds of training so far."""
    train, validation = [], []
    for line, seconds in with_seconds(lines):
        if (loss := line.get("loss")) is not None:
            train.append((line["tokens"], seconds, loss))
        if (loss := line.get("val_loss")) is not None:
            validation.append((line["tokens"], seconds, loss))
    train_LX = bin_means(np.array(train, dtype=float).reshape(-1, 3))
    val_LX = np.array(validation, dtype=float).reshape(-1, 3)
    if len(val_LX) > POINTS:
        val_LX = val_LX[np.unique(np.linspace(0, len(val_LX) - 1, POINTS).round().astype(int))]
    return Curves(*train_LX.T, *val_LX.T)


def with_seconds(lines: Iterable[Line]) -> Iterator[tuple[Line, float]]:
    """The lines that have tokens, each with the seconds of training so far.

    These are spent in training steps, without validations and checkpoints: ``train_seconds`` as measured, or in records
    of earlier versions tokens over ``tokens_per_second``, summed.
    """
    seconds, reached = 0.0, 0.0
    for line in lines:
        tokens, rate = line.get("tokens"), line.get("tokens_per_second")
        if tokens is None:
            continue
        if (measured := line.get("train_seconds")) is not None:
            seconds, reached = measured, tokens
        elif rate:
            seconds += (tokens - reached) / rate
            reached = tokens
        yield line, seconds


def validations_of(lines: list[dict[str, Any]]) -> list[tuple[float | None, float | None]]:
    """Tokens trained on and loss of the validations of a run, in order."""
    return [(line.get("tokens"), line["val_loss"]) for line in lines if "val_loss" in line]


def bin_means(rows: Array, bins: int = POINTS) -> Array:
    """Mean of each of up to ``bins`` runs of neighboring rows; non-finite rows are left out."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) <= bins:
        return rows
    edges = np.linspace(0, len(rows), bins + 1).round().astype(int)
    sums = np.add.reduceat(rows, edges[:-1], axis=0)
    return np.asarray(sums / np.diff(edges)[:, None])


def is_finite(value: object) -> bool:
    """Whether a value of a JSON file is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
