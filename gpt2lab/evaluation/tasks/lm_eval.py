"""lm-evaluation-harness on gpt2lab's models: its tasks and prompts, our tokenizer, model and batches.

    names of lm_eval's tasks -> its requests -> ``HarnessModel`` -> its metrics

Needs ``pip install 'gpt2lab[lm-eval]'``, which is imported only when a task of it is asked for. To use the model with
lm_eval's own functions: ``lm_eval.simple_evaluate(as_lm(loaded, batch_size=16), tasks=[...])``; with its own command:
``gpt2lab.cli.lm_eval``.
"""

import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpt2lab.config import SamplingConfig, TasksConfig, UserError, not_installed
from gpt2lab.evaluation.results import TableRow, as_json_lines
from gpt2lab.evaluation.scoring import bounded_exp
from gpt2lab.evaluation.tasks.likelihoods import (
    EncodedRequest,
    Request,
    perplexity_interval,
    score_encoded,
    score_requests,
    warn_of_cut,
)
from gpt2lab.evaluation.text_model import TextModel, in_scoring_precision
from gpt2lab.evaluation.windows import sliding_windows
from gpt2lab.generation import generate_stream
from gpt2lab.hub import fetch_or_explain
from gpt2lab.statistics.intervals import Z95, Interval, proportion_interval

MAX_NEW_TOKENS = 256
"""where a task does not say; lm_eval's own default"""
STOP_WINDOW = 32
"""newest tokens in which a stop string is looked for after each of them"""
BOOTSTRAP = 1_000
"""resamples for the standard errors that lm_eval takes so; its own default of 100,000 takes minutes"""


@dataclass(frozen=True)
class HarnessMetrics:
    """What lm-evaluation-harness measured."""

    version: str
    """of lm_eval"""
    tasks: dict[str, dict[str, Any]]
    """metrics by task, as lm_eval names both; ``lm_eval/TASK`` where gpt2lab's own task has the name too"""

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics by the names of ``eval.json``."""
        return {"lm_eval": self.version, **self.tasks}


class HarnessResult(NamedTuple):
    """Metrics, rows of the table, and a line for each question."""

    metrics: HarnessMetrics
    rows: list[TableRow]
    questions: str


class HarnessModel:
    """The methods of ``lm_eval.api.model.LM``, for a model of gpt2lab in one process.

    A request is an ``Instance``, whose ``args`` are (context, continuation), (text,) or (context, settings).
    """

    rank, world_size = 0, 1

    def __init__(self, loaded: TextModel, batch_size: int) -> None:
        self.loaded = loaded
        self.batch_size = batch_size

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Take the hook that stores answers one by one (``--use_cache``); lm_eval stores those of each call itself."""

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Nats of each continuation after its context, and whether greedy decoding would write it."""
        asked = [Request(*request.args) for request in requests]
        likelihoods = score_requests(self.loaded, asked, self.batch_size)
        warn_of_cut("lm_eval", sum(one.is_cut for one in likelihoods), f"{len(asked)} requests", self.loaded)
        return [(one.log_likelihood, one.is_greedy) for one in likelihoods]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Nats of each whole text, from an end-of-text on, in disjoint windows with one token of context.

        As in lm_eval, a token that the tokenizer puts before each text is scored like others, after a first one.
        """
        tokenizer, context = self.loaded.tokenizer, self.loaded.source.context
        parts: list[EncodedRequest] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            (text,) = request.args
            tokens = [tokenizer.bos_id, *tokenizer.encode_with_bos(text)]
            for begin, end, first_scored in sliding_windows(len(tokens), context, context):
                parts.append(EncodedRequest(tokens[begin:first_scored], tokens[first_scored:end]))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, part in zip(owners, score_encoded(self.loaded, parts, self.batch_size), strict=True):
            totals[owner] += part.log_likelihood
        return totals

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """A continuation of each context, up to the first of its stop strings, which is left out."""
        texts: dict[int, str] = {}
        for settings, alike in self._by_settings(requests).items():
            continuations = self._continue([requests[i].args[0] for i in alike], json.loads(settings))
            texts |= dict(zip(alike, continuations, strict=True))
        return [texts[i] for i in range(len(requests))]

    @staticmethod
    def _by_settings(requests: Sequence[Any]) -> dict[str, list[int]]:
        """Numbers of the requests that are to be continued in the same way."""
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(i)
        return groups

    def _continue(self, contexts: list[str], settings: dict[str, Any]) -> list[str]:
        """Continuations of contexts that have the same settings, which lm_eval's own function reads."""
        from lm_eval.models.utils import normalize_gen_kwargs  # noqa: PLC0415

        tokenizer, context = self.loaded.tokenizer, self.loaded.source.context
        given = normalize_gen_kwargs(settings, MAX_NEW_TOKENS)
        wanted = given["max_gen_toks"]
        if wanted >= context:
            raise UserError(
                f"eval.tasks.lm_eval: a task writes answers of up to {wanted} tokens; expected fewer than {context}, "
                "the model's context, in which the question is, too; try python -m gpt2lab.cli.lm_eval with "
                f"--gen_kwargs max_gen_toks={context // 2}"
            )
        temperature = given.get("temperature", 1.0) if given["do_sample"] else 0.0
        sampling = SamplingConfig(
            temperature=temperature,
            top_k=given.get("top_k") if temperature else None,
            top_p=given.get("top_p") if temperature else None,
            max_new_tokens=wanted,
            batch_size=self.batch_size,
        )
        prompts = [(tokenizer.encode_with_bos(text) or [tokenizer.bos_id])[-(context - wanted) :] for text in contexts]
        return self._generate(prompts, sampling, given["until"])

    def _generate(self, prompts: list[list[int]], sampling: SamplingConfig, stops: list[str]) -> list[str]:
        """Texts up to the first stop string; a row that has one leaves its place to the next prompt."""
        tokenizer = self.loaded.tokenizer
        ids: list[list[int]] = [[] for _ in prompts]
        stopped: set[int] = set()
        stream = generate_stream(
            self.loaded.model, prompts, sampling, eot_id=tokenizer.eot_id, runtime=self.loaded.runtime, ended=stopped
        )
        for row, token in stream:
            ids[row].append(token)
            if _has_stop(tokenizer.decode(ids[row][-STOP_WINDOW:]), stops):
                stopped.add(row)
        return [_until(tokenizer.decode(row), stops) for row in ids]


def as_lm(loaded: TextModel, batch_size: int) -> HarnessModel:
    """A model that ``lm_eval``'s functions take: it is an ``lm_eval.api.model.LM`` in the eyes of ``isinstance``.

    Raises:
        UserError: lm_eval is not installed.
    """
    try:
        from lm_eval.api.model import LM  # noqa: PLC0415
    except ImportError:
        raise not_installed("eval.tasks.lm_eval", "lm_eval", "'gpt2lab[lm-eval]'") from None
    LM.register(HarnessModel)
    return HarnessModel(in_scoring_precision(loaded), batch_size)


def run_lm_eval(loaded: TextModel, settings: TasksConfig) -> HarnessResult:
    """Run tasks of lm-evaluation-harness; its metrics by task, as it names them, without the name of the filter.

    A task that gpt2lab has too, and that is evaluated beside it, is called ``lm_eval/TASK``.

    Raises:
        UserError: it is not installed, has no such task, or cannot have the task's data.
    """
    model = as_lm(loaded, settings.batch_size)
    from lm_eval import simple_evaluate  # noqa: PLC0415
    from lm_eval.tasks import TaskManager  # noqa: PLC0415

    manager = TaskManager(include_path=settings.folder)
    unknown = [name for name in settings.lm_eval if not manager.match_tasks([name])]
    if unknown:
        raise UserError(f"eval.tasks.lm_eval={unknown[0]}: no such task; type lm_eval ls tasks for the list")
    fetch_or_explain(
        f"eval.tasks.lm_eval={','.join(settings.lm_eval)}",
        lambda: manager.load(settings.lm_eval),
        "check the network, or put the task's YAML file with local data into FOLDER and type eval.tasks.folder=FOLDER",
    )
    results = simple_evaluate(
        model,
        tasks=settings.lm_eval,
        task_manager=manager,
        limit=settings.limit,
        log_samples=True,
        bootstrap_iters=BOOTSTRAP,
    )
    metrics: dict[str, dict[str, Any]] = {}
    rows: list[TableRow] = []
    labels = {task: f"lm_eval/{task}" if task in settings.names else task for task in results["results"]}
    for task, raw in results["results"].items():
        values = {key: value for key, value in raw.items() if "," in key and isinstance(value, int | float)}
        named = {_plain(key): value for key, value in values.items()}
        metrics[labels[task]] = {**named, "limit": settings.limit, "version": results["versions"].get(task)}
        for key, value in values.items():
            metric = _plain(key)
            if not metric.endswith("_stderr"):
                interval = _interval(value, named.get(f"{metric}_stderr"), key, results["samples"].get(task, []))
                rows.append(TableRow(f"{labels[task]} {metric}", value, interval))
    lines = [
        {"task": labels[task], "question": sample["doc_id"], **{name: sample[name] for name in sample["metrics"]}}
        for task, samples in results["samples"].items()
        for sample in samples
    ]
    return HarnessResult(HarnessMetrics(importlib.metadata.version("lm_eval"), metrics), rows, as_json_lines(lines))


def _interval(value: float, stderr: float | None, key: str, samples: Sequence[Any]) -> Interval | None:
    """95 % interval of a metric: Wilson's for a mean of zeros and ones, for exp(-mean log-likelihood) that of the mean,
    else 1.96 standard errors on each side."""
    metric, _, harness_filter = key.partition(",")
    scores = [sample[metric] for sample in samples if metric in sample and sample["filter"] == harness_filter]
    if scores and all(isinstance(score, int | float) for score in scores):
        scores_Q, mean = np.array(scores, dtype=np.float64), float(np.mean(scores))
        # a metric may combine its scores in another way
        if np.isin(scores_Q, (0, 1)).all() and math.isclose(mean, value):
            return proportion_interval(scores_Q)
        if metric == "perplexity" and math.isclose(bounded_exp(-mean), value):
            return perplexity_interval(scores_Q)
    return None if stderr is None else (value - Z95 * stderr, value + Z95 * stderr)


def _plain(key: str) -> str:
    """``acc_norm_stderr,none`` as ``acc_norm_stderr``; a filter other than none stays, before ``_stderr``."""
    metric, _, harness_filter = key.partition(",")
    if harness_filter == "none":
        return metric
    suffix = "_stderr" if metric.endswith("_stderr") else ""
    return f"{metric.removesuffix('_stderr')} {harness_filter}{suffix}"


def _has_stop(text: str, stops: list[str]) -> bool:
    return any(stop and stop in text for stop in stops)


def _until(text: str, stops: list[str]) -> str:
    """``text`` up to the first of the stop strings."""
    return text[: min((text.find(stop) for stop in stops if stop and stop in text), default=len(text))]
