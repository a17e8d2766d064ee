"""``python train.py -m AXIS=A,B ...``: from the arguments to a sweep at work.

arguments -> sweep.* settings, overrides -> plan -> every job composed and checked -> executor -> report
"""

import importlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpt2lab.cli.compose import compose_config, compose_values
from gpt2lab.cli.launching import python_arguments, typed_command
from gpt2lab.config import SweepConfig, TrainJob, UserError, did_you_mean, from_dict, one_line
from gpt2lab.data import open_dataset, train_batches
from gpt2lab.runs import git, read_run
from gpt2lab.runs.layout import RUNS, SUMMARY, SWEEP
from gpt2lab.runs.records import COMPLETED
from gpt2lab.sweeps.executor import SweepExecutor, closing_lines
from gpt2lab.sweeps.plan import Job, Plan, plan_sweep
from gpt2lab.sweeps.record import (
    JobRecord,
    SweepRecord,
    locked,
    open_folder,
    read_sweep,
    update_record,
    write_sweep,
)
from gpt2lab.sweeps.wandb_file import write_wandb_file
from gpt2lab.tokenizers import open_tokenizer

log = logging.getLogger(__name__)

FAILED_STATUS = 1

SHAPE = ("n_layer", "n_embd", "vocab_size", "block_size")
"""model settings that decide how long a step takes"""


def run(argv: Sequence[str]) -> int:
    """Run the sweep that the command line describes; returns the exit status.

    Raises:
        UserError: a setting is wrong; nothing has started.
    """
    script, arguments = argv[0], [argument for argument in argv[1:] if argument not in ("-m", "--multirun")]
    overrides = [argument for argument in arguments if not argument.startswith("sweep.")]
    params = experiment_params(overrides)
    settings = [f"{key}={value}" for key, value in params.items() if key.startswith("sweep.")]  # typed ones come later
    sweep = sweep_settings([*settings, *(argument for argument in arguments if argument.startswith("sweep."))])
    axes = {key: values for key, values in params.items() if not key.startswith("sweep.")}
    plan = plan_sweep(overrides, axes, sweep)
    jobs = compose_jobs(plan, sweep)
    if sweep.wandb_file:
        print(write_wandb_file(Path(sweep.wandb_file), plan, typed_command("train", script)))
        return 0
    if sweep.dry_run:
        print(dry_run_page(plan, jobs, sweep))
        return 0

    folder = open_folder(Path(sweep.root), sweep.name or experiment_name(overrides))
    command = [*typed_command("train", script), "-m", *overrides, *_sweep_arguments(arguments, folder)]
    with locked(folder):
        record = _open_record(folder, plan, command)
        record.tuning_key = sweep.tune
        record.add(plan.tuning, tuning=True)
        record.add(plan.jobs, tuning=False)
        write_sweep(folder, record)
        log.info("sweep %s: %d jobs in %s", record.name, len(plan.tuning) + len(plan.jobs), folder)

        def command_of(job: JobRecord, extra: Sequence[str]) -> list[str]:
            run_dir = f"run_dir={_quoted(str(folder / job.run_dir))}"
            settings = [run_dir, "resume=auto", *_logger_settings(plan, record, job)]
            return [*job_program(script), *plan.common, *job.overrides, *extra, *settings]

        steps = {name: _steps(job) or 1 for name, job in jobs.items()}
        result = SweepExecutor(folder, record, sweep, command_of, steps).run(plan)
    print(closing_lines(result, record))
    if sweep.report and not result.stopped_by and result.completed:
        _report(folder)
    if result.stopped_by:
        return 128 + result.stopped_by
    return FAILED_STATUS if result.failed else 0


def _open_record(folder: Path, plan: Plan, command: list[str]) -> SweepRecord:
    """Return the record of an earlier start, extended by what is new, or a new one."""
    commit = git("rev-parse", "HEAD")
    if (folder / SWEEP).is_file():
        record = read_sweep(folder)
        update_record(record, plan, command, commit)
        return record
    axes = {key: list(values) for key, values in plan.axes.items()}
    return SweepRecord(folder.name, axes, plan.seeds, list(plan.common), command, commit)


def sweep_settings(arguments: Sequence[str]) -> SweepConfig:
    """The ``sweep.*`` arguments as a checked value.

    Raises:
        UserError: an unknown key, or a value that does not fit.
    """
    for argument in arguments:
        key = argument.partition("=")[0].removeprefix("sweep.").partition(".")[0]
        known = list(SweepConfig.__dataclass_fields__)
        if key not in known:
            raise UserError(f"sweep.{key}: unknown key; expected one of {', '.join(known)}{did_you_mean(key, known)}")
    settings = OmegaConf.structured(SweepConfig)
    for argument in arguments:
        try:
            override = OverridesParser.create().parse_override(argument.removeprefix("sweep."))
            OmegaConf.update(settings, override.key_or_group, override.value(), merge=True, force_add=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"{argument}: {one_line(error).partition(' full_key')[0]}") from None
    merged: Any = OmegaConf.to_container(settings)
    return from_dict(SweepConfig, merged)


def experiment_name(overrides: Sequence[str]) -> str | None:
    """The experiment that the overrides choose: it names the sweep."""
    chosen = [text.partition("=")[2] for text in overrides if re.fullmatch(r"\+?experiment=[\w.-]+", text)]
    return chosen[0] if chosen else None


def experiment_params(overrides: Sequence[str]) -> dict[str, str]:
    """The axes and ``sweep.*`` settings that an experiment's file brings, under ``hydra.sweeper.params``."""
    experiment = experiment_name(overrides)
    if experiment is None:
        return {}
    values = compose_values("train", [f"+experiment={experiment}"], with_hydra=True)
    params: Any = OmegaConf.to_container(values.hydra.sweeper, resolve=False)
    return {str(key): str(value) for key, value in (params.get("params") or {}).items()}


def compose_jobs(plan: Plan, sweep: SweepConfig) -> dict[str, TrainJob]:
    """Every job of the plan, checked, by name; so a mistake in one cell is found before the first job starts."""
    middle = sorted(sweep.tune_values)[len(sweep.tune_values) // 2] if sweep.tune else None

    def compose(job: Job) -> TrainJob:
        tuned = [f"{sweep.tune}={middle:g}"] if sweep.tune and job in plan.jobs else []
        try:
            composed: TrainJob = compose_config("train", [*plan.common, *job.overrides, *tuned])
        except UserError as error:
            raise UserError(f"{job.name}: {error}") from None
        return composed

    return {job.name: compose(job) for job in (*plan.tuning, *plan.jobs)}


def dry_run_page(plan: Plan, jobs: dict[str, TrainJob], sweep: SweepConfig) -> str:
    """The jobs, their steps and tokens, and the time that the whole sweep takes."""
    width = max(map(len, jobs))
    lines = [f"{'job':<{width}}  {'steps':>9}  {'tokens':>15}  {'minutes':>8}"]
    total_seconds, total_tokens, unknown = 0.0, 0, False
    unprepared: set[str] = set()
    for name, job in jobs.items():
        steps = _steps(job)
        if steps is None:
            lines.append(f"{name:<{width}}  {'?':>9}  {'?':>15}  {'?':>8}")
            unprepared.add(job.data.name)
            continue
        tokens, rate = steps * job.training.batch_tokens, _tokens_per_second(job)
        total_tokens += tokens
        total_seconds += tokens / rate if rate else 0.0
        unknown = unknown or rate is None
        minutes = f"{tokens / rate / 60:.1f}" if rate else "?"
        lines.append(f"{name:<{width}}  {steps:>9,}  {tokens:>15,}  {minutes:>8}")
    lines.append(f"{len(jobs)} jobs ({len(plan.tuning)} of them tuning), {total_tokens:,} tokens")
    if unprepared:
        names = ", ".join(sorted(unprepared))
        lines.append(f"steps: unknown, since an epoch of {names} is not counted yet; prepare it first (prepare.py)")
    elif unknown:
        lines.append(f"time: unknown, since {RUNS}/ has no completed run of such a model; train one job first")
    else:
        lines.append(
            f"time: about {total_seconds / 60 / sweep.parallel:.0f} minutes with sweep.parallel={sweep.parallel}"
        )
    return "\n".join(lines)


def job_program(script: str) -> list[str]:
    """Program and first arguments of one job, started as this process was."""
    return [sys.executable, *python_arguments("train", script)]


def _sweep_arguments(arguments: Sequence[str], folder: Path) -> list[str]:
    """The ``sweep.*`` arguments of the command that continues this sweep: the same, and its name."""
    kept = [text for text in arguments if text.startswith("sweep.") and not text.startswith("sweep.name=")]
    return [*kept, f"sweep.name={folder.name}"]


def _logger_settings(plan: Plan, record: SweepRecord, job: JobRecord) -> list[str]:
    """Group and tags of a run, for dashboards; what the command line says of either is left as it is."""
    tags = ",".join(_quoted(part) for part in job.condition.split(",") if "=" in part)
    settings = {"logger.group": _quoted(record.name), "logger.tags": f"[{tags}]"}
    given = {text.partition("=")[0] for text in plan.common}
    return [f"{key}={value}" for key, value in settings.items() if key not in given]


def _quoted(text: str) -> str:
    """A value that Hydra's grammar takes as it is."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _steps(job: TrainJob) -> int | None:
    """Optimizer steps of a job; None where they depend on the length of a dataset that is not prepared."""
    if job.training.max_steps is not None or job.training.max_tokens is not None:
        return job.total_steps(0)
    try:
        folder, manifest = open_dataset(job.data, open_tokenizer(job.tokenizer))
    except UserError:
        return None
    batches = train_batches(job.data, folder, manifest, job.batch_size, job.sequence_length, job.seed)
    return job.total_steps(batches.num_sequences * job.sequence_length)


def _tokens_per_second(job: TrainJob) -> float | None:
    """Of the newest completed run with the same model; None: there is none."""
    summaries = sorted(Path(RUNS).glob(f"**/{SUMMARY}"), key=os.path.getmtime, reverse=True)
    for path in summaries[:200]:
        try:
            run = read_run(path.parent)
        except UserError:
            continue
        rate, shape = run.summary.get("tokens_per_second"), run.config.get("model", {})
        same = all(shape.get(key) == getattr(job.model, key) for key in SHAPE)
        if run.status == COMPLETED and rate and same:
            return float(rate)
    return None


def _report(folder: Path) -> None:
    """Compare the runs; a sweep that cannot be compared has still been run."""
    try:
        importlib.import_module("gpt2lab.commands.reporting").report_sweep(folder)
    except UserError as error:
        log.warning("no report: %s", one_line(error))
