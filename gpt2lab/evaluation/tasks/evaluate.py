"""Metrics of zero-shot tasks: rows -> requests -> likelihoods -> scores of each question -> means, standard errors."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import EvalConfig, TasksConfig, UserError, choose
from gpt2lab.evaluation.corpora.reading import Example, fetch_rows, read_json_lines
from gpt2lab.evaluation.published import find_published_task
from gpt2lab.evaluation.results import PartResult, TableRow, as_json_lines
from gpt2lab.evaluation.scoring import bounded_exp
from gpt2lab.evaluation.tasks.likelihoods import score_requests
from gpt2lab.evaluation.tasks.lm_eval import QUESTIONS_FILE, run_lm_eval
from gpt2lab.evaluation.tasks.tasks import TASKS, Task
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.statistics.intervals import mean_error, mean_interval


def evaluate_tasks(loaded: TextModel, config: EvalConfig) -> PartResult:
    """The part ``tasks`` of an evaluation: gpt2lab's own, then lm-evaluation-harness's.

    Raises:
        UserError: no task or an unknown one is named, questions cannot be had, or one of them is malformed.
    """
    settings = config.tasks
    if not settings.names and not settings.lm_eval:
        raise UserError(f"eval.tasks.names=[]: expected some of {', '.join(TASKS)}, or eval.tasks.lm_eval=[...]")
    tasks = {name: choose(TASKS, name, "eval.tasks.names")() for name in settings.names}
    records = {name: read_questions(name, task, settings) for name, task in tasks.items()}
    parts = [_score(loaded, name, task, records[name], settings) for name, task in tasks.items()]
    if settings.lm_eval:
        parts.append(run_lm_eval(loaded, settings))
    metrics = {name: values for part in parts for name, values in part.metrics.items()}
    questions = "".join(part.files[QUESTIONS_FILE] for part in parts)
    rows = [row for part in parts for row in part.rows]
    return PartResult("Zero-shot tasks", metrics, rows, files={QUESTIONS_FILE: questions})


def read_questions(name: str, task: Task, settings: TasksConfig) -> list[Example]:
    """The rows of a task: NAME.jsonl in ``eval.tasks.folder`` if it is there, else the Hub's.

    Raises:
        UserError: they cannot be had, or one lacks a field or has one of another kind.
    """
    file = Path(settings.folder) / f"{name}.jsonl" if settings.folder else None
    fields = tuple(task.fields)
    if file is not None and file.is_file():
        where, rows = str(file), list(read_json_lines(file, fields, settings.limit))
    else:
        instead = (
            f'put its questions into FOLDER/{name}.jsonl, a line {{"{fields[0]}": ...}} each '
            f"({', '.join(fields)}), and type eval.tasks.folder=FOLDER"
        )
        where, rows = task.hub.path, fetch_rows(task.hub, fields, instead, settings.limit)
    for number, row in enumerate(rows, 1):
        for field, kind in task.fields.items():
            if not isinstance(row[field], kind):
                raise UserError(f"{where}: question {number}: {field} is {row[field]!r:.40}, expected {kind.__name__}")
    return rows


def _score(loaded: TextModel, name: str, task: Task, rows: list[Example], settings: TasksConfig) -> PartResult:
    requests = []
    for number, row in enumerate(rows, 1):
        try:
            requests.append(task.requests(row))
        except UserError as error:
            raise UserError(f"{name}: question {number}: {error}") from None
    likelihoods = iter(score_requests(loaded, [r for of_row in requests for r in of_row], settings.batch_size))
    scores = [task.scores(row, [next(likelihoods) for _ in of_row]) for row, of_row in zip(rows, requests, strict=True)]
    metrics: dict[str, Any] = {
        "questions": len(rows),
        "limit": settings.limit,
        "source": _source(name, task, settings),
        "sha256": hashlib.sha256(json.dumps([[row[f] for f in task.fields] for row in rows]).encode()).hexdigest(),
    }
    table = []
    published = find_published_task(loaded.source, name, len(rows))
    for figure in scores[0]:
        values = np.array([score[figure] for score in scores])
        label, value, stderr, interval = _summarise(figure, values)
        metrics |= {label: value, f"{label}_stderr": stderr}
        table.append(TableRow(f"{name} {label}", value, interval, *published.get(label, ())))
    lines = [{"task": name, "question": number, **score} for number, score in enumerate(scores)]
    return PartResult(name, {name: metrics}, table, files={QUESTIONS_FILE: as_json_lines(lines)})


def _summarise(figure: str, values: NDArray[np.float64]) -> tuple[str, float, float | None, tuple[float, float] | None]:
    """Name, value, standard error, 95 % interval: the mean; for nats the perplexity exp(-mean), by the delta method."""
    mean, stderr, interval = float(values.mean()), mean_error(values), mean_interval(values)
    if figure != "log_likelihood":
        return figure, mean, stderr, interval
    value = bounded_exp(-mean)
    scaled = None if stderr is None or math.isinf(value) else value * stderr
    return "perplexity", value, scaled, interval and (bounded_exp(-interval[1]), bounded_exp(-interval[0]))


def _source(name: str, task: Task, settings: TasksConfig) -> Any:
    file = Path(settings.folder) / f"{name}.jsonl" if settings.folder else None
    return str(file) if file is not None and file.is_file() else task.hub.describe()
