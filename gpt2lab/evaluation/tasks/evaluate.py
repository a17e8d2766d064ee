"""Metrics of zero-shot tasks: rows -> requests -> likelihoods -> scores of each question -> means, standard errors."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import EvalConfig, TasksConfig, UserError, choose
from gpt2lab.evaluation.corpora.reading import Example, read_json_lines
from gpt2lab.evaluation.published import find_published_task
from gpt2lab.evaluation.results import PartResult, TableRow, as_json_lines
from gpt2lab.evaluation.scoring import bounded_exp, describe_precision
from gpt2lab.evaluation.tasks.likelihoods import score_requests
from gpt2lab.evaluation.tasks.lm_eval import HarnessMetrics, HarnessResult, run_lm_eval
from gpt2lab.evaluation.tasks.tasks import TASKS, Task
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.statistics.intervals import mean_error, mean_interval, proportion_interval

QUESTIONS_FILE = "questions.jsonl"
"""scores of each question, beside eval.json"""


@dataclass(frozen=True)
class TaskMetrics:
    """The metrics of one task."""

    questions: int
    limit: int | None
    source: Any
    """file, or the dataset on the Hub"""
    sha256: str
    """of the questions"""
    values: dict[str, float | None]
    """by name, each followed by its standard error"""

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics by the names of ``eval.json``."""
        facts = {"questions": self.questions, "limit": self.limit, "source": self.source, "sha256": self.sha256}
        return {**facts, **self.values}


@dataclass(frozen=True)
class TasksMetrics:
    """The metrics of the part ``tasks``."""

    tasks: dict[str, TaskMetrics]
    lm_eval: HarnessMetrics | None
    """those of lm-evaluation-harness"""

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics of each task by its name."""
        own = {name: task.to_dict() for name, task in self.tasks.items()}
        return own | self.lm_eval.to_dict() if self.lm_eval else own


class ScoredTask(NamedTuple):
    """Metrics of a task, its rows of the table, and a line for each question."""

    metrics: TaskMetrics
    rows: list[TableRow]
    questions: str


def evaluate_tasks(loaded: TextModel, config: EvalConfig) -> PartResult:
    """The part ``tasks`` of an evaluation: gpt2lab's own, then lm-evaluation-harness's.

    Raises:
        UserError: no task or an unknown one is named, questions cannot be read or fetched, or one of them is malformed.
    """
    settings = config.tasks
    if not settings.names and not settings.lm_eval:
        raise UserError(f"eval.tasks.names=[]: expected some of {', '.join(TASKS)}, or eval.tasks.lm_eval=[...]")
    tasks = {name: choose(TASKS, name, "eval.tasks.names")() for name in settings.names}
    records = {name: read_questions(name, task, settings) for name, task in tasks.items()}
    scored = {name: _score(loaded, name, task, records[name], settings) for name, task in tasks.items()}
    harness = run_lm_eval(loaded, settings) if settings.lm_eval else None
    metrics = TasksMetrics({name: task.metrics for name, task in scored.items()}, harness and harness.metrics)
    parts: list[ScoredTask | HarnessResult] = [*scored.values(), *([harness] if harness else [])]
    questions = "".join(part.questions for part in parts)
    protocol = {"tokenizer": loaded.tokenizer.name, "precision": describe_precision(loaded.runtime)}
    rows = [row for part in parts for row in part.rows]
    return PartResult("Zero-shot tasks", metrics, rows, protocol, files={QUESTIONS_FILE: questions})


def read_questions(name: str, task: Task, settings: TasksConfig) -> list[Example]:
    """The rows of a task: those of its files in ``eval.tasks.folder`` if there are any, else the Hub's.

    Raises:
        UserError: they cannot be read or fetched, or one lacks a field or has one of another kind.
    """
    fields = tuple(task.fields)
    if files := _files(name, task, settings):
        parts = {str(file): list(read_json_lines(file, fields, settings.limit)) for file in files}
    else:
        instead = (
            f'put its questions into {task.files_in_words(name)}, a line {{"{fields[0]}": ...}} each '
            f"({', '.join(fields)}), and type eval.tasks.folder=FOLDER"
        )
        parts = task.fetch(instead, settings.limit)
    for where, rows in parts.items():
        for number, row in enumerate(rows, 1):
            _check_kinds(row, task, f"{where}: question {number}")
    return [row for rows in parts.values() for row in rows]


def _check_kinds(row: Example, task: Task, where: str) -> None:
    """Raise ``UserError`` for a field that holds a value of another kind than the task reads."""
    for field, kind in task.fields.items():
        if not isinstance(row[field], kind):
            raise UserError(f"{where}: {field} is {row[field]!r:.40}, expected {kind.__name__}")


def _score(loaded: TextModel, name: str, task: Task, rows: list[Example], settings: TasksConfig) -> ScoredTask:
    requests = []
    for number, row in enumerate(rows, 1):
        try:
            requests.append(task.requests(row))
        except UserError as error:
            raise UserError(f"{name}: question {number}: {error}") from None
    likelihoods = iter(score_requests(loaded, [r for of_row in requests for r in of_row], settings.batch_size))
    scores = [task.scores(row, [next(likelihoods) for _ in of_row]) for row, of_row in zip(rows, requests, strict=True)]
    sha256 = hashlib.sha256(json.dumps([[row[f] for f in task.fields] for row in rows]).encode()).hexdigest()
    by_name: dict[str, float | None] = {}
    table = []
    published = find_published_task(loaded.source, name, len(rows))
    for metric in dict.fromkeys(metric for score in scores for metric in score):
        values = np.array([score[metric] for score in scores if metric in score])
        label, value, stderr, interval = _summarize(metric, values)
        by_name |= {label: value, f"{label}_stderr": stderr}
        table.append(TableRow(f"{name} {label}", value, interval, *published.get(label, ())))
    lines = [{"task": name, "question": number, **score} for number, score in enumerate(scores)]
    metrics = TaskMetrics(len(rows), settings.limit, _source(name, task, settings), sha256, by_name)
    return ScoredTask(metrics, table, as_json_lines(lines))


def _summarize(metric: str, values: NDArray[np.float64]) -> tuple[str, float, float | None, tuple[float, float] | None]:
    """Name, value, standard error, 95 % interval.

    Of accuracies the mean, with Wilson's interval; of nats the perplexity exp(-mean), by the delta method.
    """
    mean, stderr = float(values.mean()), mean_error(values)
    if metric != "log_likelihood":
        return metric, mean, stderr, proportion_interval(values)
    interval = mean_interval(values)
    value = bounded_exp(-mean)
    scaled = None if stderr is None or math.isinf(value) else value * stderr
    return "perplexity", value, scaled, interval and (bounded_exp(-interval[1]), bounded_exp(-interval[0]))


def _files(name: str, task: Task, settings: TasksConfig) -> list[Path]:
    return task.files(Path(settings.folder), name) if settings.folder else []


def _source(name: str, task: Task, settings: TasksConfig) -> Any:
    files = _files(name, task, settings)
    return ", ".join(map(str, files)) if files else task.hub.describe()
