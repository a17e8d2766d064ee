"""Metrics of zero-shot tasks: rows -> requests -> likelihoods -> scores of each question -> means, standard errors."""

import hashlib
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import EvalConfig, TasksConfig, UserError, choose
from gpt2lab.evaluation.corpora.reading import Example, has_utf8, read_json_lines
from gpt2lab.evaluation.published import find_published_task
from gpt2lab.evaluation.results import PartResult, TableRow, as_json_lines
from gpt2lab.evaluation.scoring import bounded_exp, describe_precision
from gpt2lab.evaluation.tasks.likelihoods import Request, perplexity_interval, score_requests, warn_of_cut
from gpt2lab.evaluation.tasks.lm_eval import HarnessMetrics, HarnessResult, run_lm_eval
from gpt2lab.evaluation.tasks.tasks import TASKS, Task
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.statistics.intervals import mean_error, proportion_interval

log = logging.getLogger(__name__)

QUESTIONS_FILE = "questions.jsonl"
"""scores of each question, beside eval.json"""


@dataclass(frozen=True)
class TaskMetrics:
    """The metrics of one task."""

    questions: int
    truncated: int
    """questions that lost their beginning, for which the model's context had no room"""
    limit: int | None
    source: Any
    """file, or the dataset on the Hub"""
    sha256: str
    """of the questions"""
    values: dict[str, float | None]
    """by name, each followed by its standard error"""

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics by the names of ``eval.json``."""
        facts = ("questions", "truncated", "limit", "source", "sha256")
        return {**{name: getattr(self, name) for name in facts}, **self.values}


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


class Question(NamedTuple):
    """A row of a task, and the texts to score for it."""

    row: Example
    requests: list[Request]


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
    scored = score_tasks(loaded, read_tasks(settings, "eval.tasks.folder"), settings)
    for name, task in scored.items():
        warn_of_cut(name, task.metrics.truncated, f"{task.metrics.questions} questions", loaded)
    harness = run_lm_eval(loaded, settings) if settings.lm_eval else None
    metrics = TasksMetrics({name: task.metrics for name, task in scored.items()}, harness and harness.metrics)
    parts: list[ScoredTask | HarnessResult] = [*scored.values(), *([harness] if harness else [])]
    questions = "".join(part.questions for part in parts)
    protocol = {"tokenizer": loaded.tokenizer.name, "precision": describe_precision(loaded.runtime)}
    rows = [row for part in parts for row in part.rows]
    return PartResult("Zero-shot tasks", metrics, rows, protocol, files={QUESTIONS_FILE: questions})


def read_tasks(settings: TasksConfig, folder_key: str) -> dict[str, list[Question]]:
    """The questions of each task: those of its files in the folder if there are any, else the Hub's.

    Args:
        settings: which tasks, how many questions of each, and the folder.
        folder_key: the setting that names the folder, for messages.

    Raises:
        UserError: a task is unknown, there is no such folder, or questions cannot be read or fetched, or are malformed.
    """
    if settings.folder and not Path(settings.folder).is_dir():
        raise UserError(
            f"{folder_key}={settings.folder}: no such folder; expected one with TASK.jsonl, or null: the Hub"
        )
    tasks = {name: choose(TASKS, name, "eval.tasks.names")() for name in settings.names}
    return {name: _read_questions(name, task, settings) for name, task in tasks.items()}


def score_tasks(
    loaded: TextModel, questions: dict[str, list[Question]], settings: TasksConfig
) -> dict[str, ScoredTask]:
    """Score the questions of each task, as ``read_tasks`` returns them."""
    return {name: _score(loaded, name, TASKS[name](), of_task, settings) for name, of_task in questions.items()}


def _read_questions(name: str, task: Task, settings: TasksConfig) -> list[Question]:
    fields = tuple(task.fields)
    if files := _files(name, task, settings):
        parts = {str(file): list(read_json_lines(file, fields, settings.limit)) for file in files}
    else:
        if settings.folder:
            log.info("%s: %s has no questions of it, so they are the Hub's", name, settings.folder)
        instead = (
            f'put its questions into {task.files_in_words(name)}, a line {{"{fields[0]}": ...}} each '
            f"({', '.join(fields)}), and type eval.tasks.folder=FOLDER"
        )
        parts = task.fetch(instead, settings.limit)
    return [
        _question(task, row, f"{where}: question {number}")
        for where, rows in parts.items()
        for number, row in enumerate(rows, 1)
    ]


def _question(task: Task, row: Example, where: str) -> Question:
    """The question that a row holds; a ``UserError`` that says where it is, if it is none."""
    for field, kind in task.fields.items():
        if not _is_of(kind, row[field]):
            expected = "a list of texts" if kind is list else "a text"
            raise UserError(f"{where}: {field} is {row[field]!r:.40}, expected {expected} in Unicode")
    try:
        return Question(row, task.requests(row))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _is_of(kind: type, value: object) -> bool:
    """Whether a field's value is of the kind that the task reads; the items of a list are texts."""
    if kind is list:
        return isinstance(value, list) and all(_is_of(str, item) for item in value)
    return isinstance(value, kind) and (not isinstance(value, str) or has_utf8(value))


def _score(loaded: TextModel, name: str, task: Task, questions: list[Question], settings: TasksConfig) -> ScoredTask:
    requests = [request for question in questions for request in question.requests]
    likelihoods = iter(score_requests(loaded, requests, settings.batch_size))
    likelihoods_of = [[next(likelihoods) for _ in of_row] for _, of_row in questions]
    truncated = sum(any(one.is_cut for one in of_row) for of_row in likelihoods_of)
    scores = [task.scores(row, of_row) for (row, _), of_row in zip(questions, likelihoods_of, strict=True)]
    used = [[row[field] for field in task.fields] for row, _ in questions]
    sha256 = hashlib.sha256(json.dumps(used).encode()).hexdigest()
    by_name: dict[str, float | None] = {}
    table = []
    published = find_published_task(loaded.source, name, len(questions))
    for metric in dict.fromkeys(metric for score in scores for metric in score):
        values = np.array([score[metric] for score in scores if metric in score])
        label, value, stderr, interval = _summarize(metric, values)
        by_name |= {label: value, f"{label}_stderr": stderr}
        table.append(TableRow(f"{name} {label}", value, interval, *published.get(label, ())))
    lines = [{"task": name, "question": number, **score} for number, score in enumerate(scores)]
    source = _source(name, task, settings)
    metrics = TaskMetrics(len(questions), truncated, settings.limit, source, sha256, by_name)
    return ScoredTask(metrics, table, as_json_lines(lines))


def _summarize(metric: str, values: NDArray[np.float64]) -> tuple[str, float, float | None, tuple[float, float] | None]:
    """Name, value, standard error, 95 % interval.

    Of accuracies the mean, with Wilson's interval; of nats the perplexity exp(-mean), by the delta method.
    """
    mean, stderr = float(values.mean()), mean_error(values)
    if metric != "log_likelihood":
        return metric, mean, stderr, proportion_interval(values)
    value = bounded_exp(-mean)
    scaled = None if stderr is None or math.isinf(value) else value * stderr
    return "perplexity", value, scaled, perplexity_interval(values)


def _files(name: str, task: Task, settings: TasksConfig) -> list[Path]:
    return task.files(Path(settings.folder), name) if settings.folder else []


def _source(name: str, task: Task, settings: TasksConfig) -> Any:
    files = _files(name, task, settings)
    return ", ".join(map(str, files)) if files else task.hub.describe()
