"""Evaluate models: job -> table on the terminal, ``eval.json``, ``documents.jsonl``, pictures."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2lab.checkpoint import has_checkpoint, runs_with_checkpoint
from gpt2lab.config import EvalConfig, EvalJob, UserError, check_kind, one_line, to_dict
from gpt2lab.distributed import World, close_world, open_world
from gpt2lab.evaluation.comparison import BaselineComparison, compare, comparison_part, require_same_documents
from gpt2lab.evaluation.corpora.formats import chosen_corpus
from gpt2lab.evaluation.parts import PreparedPart, explaining_memory_of, part_settings, prepare_parts
from gpt2lab.evaluation.perplexity.evaluate import PreparedPerplexity, prepare_perplexity
from gpt2lab.evaluation.record import evaluation_id, read_documents, read_evaluations, save_record
from gpt2lab.evaluation.results import PartResult, numbers_in
from gpt2lab.evaluation.table import format_number, render_parts, render_table
from gpt2lab.evaluation.text_model import TextModel, in_scoring_precision, open_text_model
from gpt2lab.files import check_file_writable, file_sha256, write_text
from gpt2lab.report.evaluation_plots import PLOTS
from gpt2lab.runs import COMPLETED, Hardware, environment, read_run
from gpt2lab.runs.layout import CHECKPOINTS, DOCUMENTS, EVALUATION, SWEEP
from gpt2lab.runtime import Runtime, open_runtime
from gpt2lab.training.loggers import log_evaluation
from gpt2lab.weights import find_stored_model

log = logging.getLogger(__name__)

SWEEP_COLUMNS = ("bits_per_byte", "token_perplexity", "word_perplexity")


@dataclass(frozen=True)
class EvaluationResult:
    """The evaluation of one model."""

    model: str
    """where it came from"""
    out: Path
    """file that holds it"""
    parts: dict[str, PartResult]
    comparison: BaselineComparison | None = None


def evaluate(job: EvalJob, *, command: Sequence[str] | None = None) -> list[EvaluationResult]:
    """Evaluate the model that the job names, or every completed run of a sweep; print one table; write the records.

    Raises:
        UserError: a model or text cannot be read or fetched, a setting is wrong, or the record in the way is damaged.
    """
    check_kind(job, EvalJob, "job", 'compose_config("eval", [...])')
    world = open_world()
    runtime = open_runtime(job.runtime, world.local_rank, world.local_size)
    results = _evaluate_all(job, runtime, world, command)
    close_world()
    return results


def _evaluate_all(
    job: EvalJob, runtime: Runtime, world: World, command: Sequence[str] | None
) -> list[EvaluationResult]:
    """Evaluate one model or the runs of a sweep; the processes of ``world`` share each of them."""
    if not job.checkpoint or not is_sweep(folder := Path(job.checkpoint)):
        return [_evaluate_one(job, runtime, world, command)]
    if job.out is not None:
        raise UserError(
            f"out={job.out}: the runs of a sweep keep their evaluations in their own folders; leave out away"
        )
    runs = world.on_main(lambda: undamaged_runs(sweep_runs(folder)))  # all processes evaluate the same ones
    results = [_evaluate_one(dataclasses.replace(job, checkpoint=str(run)), runtime, world, command) for run in runs]
    if table := sweep_table(runs, results):
        log.info("\n%s\n", table)
    return results


def open_for_evaluation(where: str | None, job: EvalJob, runtime: Runtime, key: str = "checkpoint") -> TextModel:
    """Open the model with the precision that its scores are taken in."""
    loaded = open_text_model(where, runtime, key)
    return in_scoring_precision(dataclasses.replace(loaded, auto_precision=job.runtime.precision == "auto"))


def in_one_precision(loaded: TextModel, baseline: TextModel) -> tuple[TextModel, TextModel]:
    """Two models whose scores are compared, both in float32 where ``runtime.precision=auto`` chose two precisions."""
    if loaded.runtime.precision == baseline.runtime.precision:
        return loaded, baseline
    first, second = (
        dataclasses.replace(model, runtime=dataclasses.replace(model.runtime, precision="fp32"))
        for model in (loaded, baseline)
    )
    return first, second


def is_sweep(folder: Path) -> bool:
    """Whether a folder holds runs: ``sweep.json``, or run directories with a checkpoint."""
    return (folder / SWEEP).is_file() or (
        folder.is_dir() and not (folder / CHECKPOINTS).exists() and any(map(has_checkpoint, folder.iterdir()))
    )


def sweep_runs(folder: Path) -> list[Path]:
    """The completed runs in a sweep's folder, in order of their names; others are named in a warning.

    Raises:
        UserError: there is none.
    """
    runs = sorted(runs_with_checkpoint(folder))
    completed = [run for run in runs if read_run(run).status == COMPLETED]
    for run in runs:
        if run not in completed:
            log.warning("%s is left out: it is not completed; checkpoint=%s takes it", run, run)
    if not completed:
        raise UserError(f"checkpoint={folder}: no completed run in it; expected a run, or a sweep with completed runs")
    return completed


def undamaged_runs(runs: Sequence[Path]) -> list[Path]:
    """Those whose checkpoint is whole; others are named in a warning.

    Raises:
        UserError: none is.
    """
    undamaged = []
    for run in runs:
        try:
            find_stored_model(str(run), "checkpoint")
        except UserError as error:
            log.warning("%s is left out: %s", run, one_line(error))
        else:
            undamaged.append(run)
    if not undamaged:
        raise UserError(f"checkpoint={runs[0].parent}: every checkpoint of its completed runs is damaged")
    return undamaged


def _evaluate_one(job: EvalJob, runtime: Runtime, world: World, command: Sequence[str] | None) -> EvaluationResult:
    loaded = dataclasses.replace(open_for_evaluation(job.checkpoint, job, runtime), world=world)
    out = Path(job.out) if job.out else loaded.source.results / EVALUATION
    check_file_writable(out, "out", EVALUATION)
    read_evaluations(out)  # a damaged record, or another file, is an error before the work, not after it
    read_documents(out.parent / DOCUMENTS)
    baseline = None
    if job.baseline:
        baseline = dataclasses.replace(open_for_evaluation(job.baseline, job, runtime, "baseline"), world=world)
        loaded, baseline = in_one_precision(loaded, baseline)
    name = loaded.source.describe()
    log.info(name)
    prepared = prepare_parts(loaded, job.eval)
    prepared_baseline = _prepare_baseline(job, prepared, baseline) if baseline else None
    parts: dict[str, PartResult] = {}
    comparison = None
    try:
        for part, evaluate_part in prepared.items():
            with explaining_memory_of(part, job.eval):
                parts[part] = evaluate_part()
        if prepared_baseline is not None:
            with explaining_memory_of("perplexity", job.eval):
                comparison = _compare(parts["perplexity"], prepared_baseline)
    finally:  # where a later part fails, those that are complete are shown and saved
        if parts:
            shown = parts if comparison is None else {**parts, "comparison": comparison_part(comparison)}
            log.info("\n%s\n", render_parts(shown))
            if world.is_main:
                _write(job, loaded, parts, comparison, out, command)
                log.info("written to %s", out)
                log_evaluation(
                    loaded.source.results, dashboard_metrics(parts, job.eval), loaded.source.origin.get("step")
                )
    return EvaluationResult(name, out, parts, comparison)


def _prepare_baseline(job: EvalJob, prepared: dict[str, PreparedPart], baseline: TextModel) -> PreparedPerplexity:
    """The perplexity of the baseline on the documents that the model is scored on, ready to be computed.

    Raises:
        UserError: it cannot be scored on the same documents.
    """
    ours = prepared["perplexity"]
    assert isinstance(ours, PreparedPerplexity)
    try:
        theirs = prepare_perplexity(baseline, job.eval)
    except UserError as error:
        raise UserError(f"baseline={job.baseline}: {error}") from None
    require_same_documents(ours.plan.bytes_D, theirs.plan.bytes_D, baseline.source.describe())
    return theirs


def _compare(perplexity: PartResult, baseline: PreparedPerplexity) -> BaselineComparison:
    """Score the baseline, and compare document by document."""
    ours, theirs = perplexity.documents, baseline().documents
    assert ours is not None
    assert theirs is not None
    return compare(ours, theirs, baseline.loaded.source.describe())


def _write(
    job: EvalJob,
    loaded: TextModel,
    parts: dict[str, PartResult],
    comparison: BaselineComparison | None,
    out: Path,
    command: Sequence[str] | None,
) -> None:
    runtime = loaded.runtime
    origin = {
        **loaded.source.origin,
        "weights_sha256": {file.name: file_sha256(file) for file in loaded.source.files},
        "parameters": loaded.model.num_parameters(),
    }
    repetition = {
        "job": to_dict(job),
        "environment": environment(command, Hardware(runtime.device_name, runtime.cpu_threads)),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    documents: dict[str, list[dict[str, Any]]] = {}
    for name, part in parts.items():
        settings = part_settings(name, job.eval)
        identity = evaluation_id(name, origin, part.protocol, settings)
        entry = {"id": identity, "part": name, **origin, **part.to_dict(), **repetition}
        if comparison is not None and name == "perplexity":
            entry["comparison"] = comparison.to_dict()
        entries.append(entry)
        if part.documents is not None:
            alike = {key: part.protocol.get(key) for key in ("precision", "sha256")}
            shared = {
                "checkpoint": origin["checkpoint"],
                "step": origin.get("step"),
                **_text_of(job.eval),
                "settings": evaluation_id(name, {}, alike, settings),
            }
            documents[identity] = [{**shared, **line} for line in part.documents.to_lines()]
        for file, text in part.files.items():
            write_text(out.parent / f"{identity}.{file}", text)
        if name in PLOTS:
            PLOTS[name](part.to_dict(), out.parent, identity, loaded.source.describe())
    save_record(out, entries, documents)


def dashboard_metrics(parts: dict[str, PartResult], config: EvalConfig) -> dict[str, float]:
    """Every number of an evaluation by a name that tells texts and protocols apart.

    ``validation_split/stream/bits_per_byte``, ``tasks/lambada_openai/acc``, ``sample_quality/CORPUS/...``.
    """
    corpus = Path(config.text_file).stem if config.text_file else config.corpus.name
    prefixes = {"perplexity": f"{corpus}/{config.protocol}", "tasks": "tasks"}
    found: dict[str, float] = {}
    for name, part in parts.items():
        found |= numbers_in(part.metrics.to_dict(), prefixes.get(name, f"{name}/{corpus}"))
    return found


def _text_of(config: EvalConfig) -> dict[str, str]:
    corpus = chosen_corpus(config)
    name = Path(corpus.file).name if corpus.name == "text_file" and corpus.file else corpus.name
    return {"corpus": name, "protocol": config.protocol}


def sweep_table(runs: Sequence[Path], results: Sequence[EvaluationResult]) -> str:
    """One line per run: its perplexity, the difference to the baseline, accuracies; the tables above have the rest.

    Empty where none of these was computed (``eval=context`` alone).
    """
    metrics = [_compared_metrics(result) for result in results]
    columns = list(dict.fromkeys(name for of_run in metrics for name in of_run))
    rows = [
        [run.name, *(format_number(of_run.get(name)) for name in columns)]
        for run, of_run in zip(runs, metrics, strict=True)
    ]
    return render_table([["run", *columns], *rows]) if columns else ""


def _compared_metrics(result: EvaluationResult) -> dict[str, float]:
    """What runs of a sweep are compared by, under the heads of the columns."""
    found: dict[str, float] = {}
    if perplexity := result.parts.get("perplexity"):
        values = perplexity.metrics.to_dict()
        found |= {name: values[name] for name in SWEEP_COLUMNS if values.get(name) is not None}
    if result.comparison:
        found["bits_per_byte - baseline"] = result.comparison.bits_per_byte
    if tasks := result.parts.get("tasks"):
        found |= {row.label: row.value for row in tasks.rows if row.label.endswith(" acc")}
    return found
