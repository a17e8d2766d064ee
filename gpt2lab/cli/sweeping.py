"""``python train.py -m AXIS=A,B ...``: from the arguments to a sweep at work.

arguments -> sweep.* settings, overrides -> plan -> every job composed and checked -> executor -> report
"""

import hashlib
import importlib
import logging
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpt2lab.cli.compose import (
    compose_config,
    compose_values,
    explain_override,
    key_kinds,
    literal_text,
    settings_of,
)
from gpt2lab.cli.launching import python_arguments, typed_command
from gpt2lab.cli.override_errors import Settings, omegaconf_reason, unknown_key, wrong_value
from gpt2lab.cli.rerun import is_rerun, job_from_record
from gpt2lab.config import SweepConfig, TrainJob, UserError, check, did_you_mean, from_dict, one_line
from gpt2lab.locks import locked
from gpt2lab.runs import git
from gpt2lab.runs.layout import SWEEP
from gpt2lab.sweeps.dry_run import dry_run_page, steps_after_preparing
from gpt2lab.sweeps.executor import SweepExecutor, closing_lines
from gpt2lab.sweeps.launchers import LAUNCHERS
from gpt2lab.sweeps.plan import Job, Plan, is_axis, key_of, plan_sweep, value_text
from gpt2lab.sweeps.record import (
    JobRecord,
    SweepRecord,
    continued_text,
    open_folder,
    read_sweep,
    recorded_plan,
    status_of,
    update_record,
    write_sweep,
)
from gpt2lab.sweeps.unchanged import check_unchanged
from gpt2lab.sweeps.wandb_file import write_wandb_file

log = logging.getLogger(__name__)

FAILED_STATUS = 1
TUNING_KEYS = ("sweep.tune", "sweep.tune_values", "sweep.tune_seeds")
LONGEST_TAG = 64
"""characters; W&B refuses a run with a longer one"""


def run(argv: Sequence[str]) -> int:
    """Run the sweep that the command line describes; returns the exit status.

    Raises:
        UserError: a setting is wrong; nothing has started.
    """
    script, typed = argv[0], [argument for argument in argv[1:] if argument not in ("-m", "--multirun")]
    continued = continued_record(typed)
    arguments = arguments_of_continued(continued, typed) if continued else typed
    overrides = [argument for argument in arguments if not argument.startswith("sweep.")]
    params = experiment_params(overrides)
    settings = [f"{key}={value}" for key, value in params.items() if key.startswith("sweep.")]  # typed ones come later
    sweep = sweep_settings([*settings, *(argument for argument in arguments if argument.startswith("sweep."))])
    axes = {key: values for key, values in params.items() if not key.startswith("sweep.")}
    name = sweep.name or experiment_name(overrides)
    try:
        order = _axes_of_earlier_start(Path(sweep.root), name)
        plan = recorded_plan(continued, overrides) if continued else plan_sweep(overrides, axes, sweep, order)
    except HydraException as error:
        raise explain_override(error, "train", overrides) from error
    jobs = compose_jobs(plan, sweep)
    if sweep.wandb_file:
        print(write_wandb_file(Path(sweep.wandb_file), plan, typed_command("train", script)))
        return 0
    if sweep.dry_run:
        begun = Path(sweep.root) / name if name else None
        record = _extended_record(begun, plan, jobs, sweep.tune)
        statuses = {job.name: status_of(job, begun) if begun else job.status for job in record.jobs}
        print(dry_run_page(plan, jobs, statuses, sweep))
        return 0

    LAUNCHERS[sweep.launcher].require(sweep)
    steps = {name: steps_after_preparing(job) for name, job in jobs.items()}
    folder = open_folder(Path(sweep.root), name)
    busy = f"sweep.name={folder.name}: another process runs this sweep; wait for it or choose another name"
    with locked(folder, busy):
        record = _extended_record(folder, plan, jobs, sweep.tune)
        program = [*typed_command("train", script), "-m"]
        record.command = [*program, *overrides, *_sweep_arguments(arguments, folder)]
        record.commit = git("rev-parse", "HEAD")
        write_sweep(folder, record)
        log.info("sweep %s: %d jobs in %s", record.name, len(plan.tuning) + len(plan.jobs), folder)

        def command_of(job: JobRecord, extra: Sequence[str]) -> list[str]:
            run_dir = f"run_dir={_quoted(str(folder / job.run_dir))}"
            settings = [run_dir, "resume=auto", *_logger_settings(plan, record, job)]
            return [*job_program(script), *plan.common, *job.overrides, *extra, *settings]

        result = SweepExecutor(folder, record, sweep, command_of, steps).run(plan)
    print(closing_lines(result, record, [*program, *typed] if continued else record.command))
    if sweep.report and not result.stopped_by and result.completed:
        _report(folder)
    if result.stopped_by:
        return 128 + result.stopped_by
    return FAILED_STATUS if result.failed else 0


def continued_record(arguments: Sequence[str]) -> SweepRecord | None:
    """The record of the sweep that the arguments name and let nothing vary in; None where something varies.

    Raises:
        UserError: there is no sweep of this name, or an argument would change what its jobs are.
    """
    place = sweep_settings([text for text in arguments if key_of(text) in ("sweep.name", "sweep.root")])
    overrides = [text for text in arguments if not text.startswith("sweep.")]
    try:
        if place.name is None or experiment_name(overrides) or any(map(is_axis, overrides)):
            return None
    except HydraException as error:
        raise explain_override(error, "train", overrides) from error
    folder = Path(place.root) / place.name
    if not (folder / SWEEP).is_file():
        names = [path.parent.name for path in Path(place.root).glob(f"*/{SWEEP}")]
        raise UserError(
            f"sweep.name={place.name}: nothing varies, and {place.root} has no sweep of this name to continue"
            f"{did_you_mean(place.name, names)}; expected an axis with two values or more, such as "
            "model/positions=learned,rope, or a sweep that has begun"
        )
    record = read_sweep(folder)
    for text in arguments:
        if key_of(text) in record.axes or key_of(text) in TUNING_KEYS:
            raise UserError(
                f"{text}: sweep.name={place.name} is continued with its own axes and tuning; expected no value; to add "
                f"values to an axis, type the whole command: {shlex.join(record.command)}"
            )
    log.info("%s", continued_text(record, folder))
    return record


def arguments_of_continued(record: SweepRecord, arguments: Sequence[str]) -> list[str]:
    """The arguments of the sweep's last start, those that are typed now in their place."""
    typed = {"sweep.root", *map(key_of, arguments)}  # it is continued where it was found
    recorded = list(dropwhile(lambda word: word != "-m", record.command))[1:]
    return [*(text for text in recorded if key_of(text) not in typed), *arguments]


def _extended_record(
    folder: Path | None, plan: Plan, jobs: Mapping[str, TrainJob], tuning_key: str | None
) -> SweepRecord:
    """The record of an earlier start, extended by what is new, or a new one; nothing is written.

    Raises:
        UserError: the plan does not fit the earlier start.
    """
    if folder and (folder / SWEEP).is_file():
        record = read_sweep(folder)
        update_record(record, plan, tuning_key)
        check_unchanged(record, folder, jobs)
    else:
        axes = {key: list(values) for key, values in plan.axes.items()}
        record = SweepRecord(folder.name if folder else "", axes, plan.seeds, list(plan.common))
    record.tuning_key = tuning_key
    record.add(plan.tuning, tuning=True)
    record.add(plan.jobs, tuning=False)
    return record


def _axes_of_earlier_start(root: Path, name: str | None) -> list[str]:
    """Keys of the axes in the record of a sweep of this name, in its order; none where there is no such sweep."""
    return list(read_sweep(root / name).axes) if name is not None and (root / name / SWEEP).is_file() else []


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
    own = Settings("train", key_kinds(SweepConfig, "sweep."), {}, [], {})
    for argument in arguments:
        try:
            override = OverridesParser.create().parse_override(literal_text(argument))
            name = override.key_or_group.removeprefix("sweep.")
            OmegaConf.update(settings, name, override.value(), merge=True, force_add=True)
        except OmegaConfBaseException as error:
            key, _, value = argument.partition("=")
            raise UserError(wrong_value(key, value, omegaconf_reason(error), own)) from None
        except HydraException as error:
            raise explain_override(error, "train", [argument]) from None
    merged: Any = OmegaConf.to_container(settings)
    sweep = from_dict(SweepConfig, merged)
    if sweep.tune is not None and settings_of("train").kind_of(sweep.tune) is None:
        raise UserError(f"sweep.tune={unknown_key(sweep.tune, '', '', settings_of('train'))}")
    return sweep


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
    """Every job of the plan, checked, by name; so a mistake in one cell is found before the first job starts.

    Raises:
        UserError: a setting is wrong, or a seed of the tuning is one of the comparison.
    """
    middle = sorted(sweep.tune_values)[len(sweep.tune_values) // 2] if sweep.tune else None

    def train_job(arguments: list[str]) -> TrainJob:
        composed: TrainJob = compose_config("train", arguments)
        return composed

    def compose(job: Job) -> TrainJob:
        tuned = [f"{sweep.tune}={value_text(middle)}"] if middle is not None and job in plan.jobs else []
        try:
            arguments = [*plan.common, *job.overrides, *tuned]
            return job_from_record(arguments) if is_rerun(arguments) else train_job(arguments)
        except UserError as error:
            raise UserError(f"{job.name}: {error}") from None

    composed = {job.name: compose(job) for job in (*plan.tuning, *plan.jobs)}
    if sweep.tune:
        seeds = sorted({composed[job.name].seed for job in plan.jobs})
        is_apart = not set(seeds) & set(sweep.tune_seeds)
        check(is_apart, "sweep.tune_seeds", sweep.tune_seeds, f"other seeds than the comparison's {seeds}")
    return composed


def job_program(script: str) -> list[str]:
    """Program and first arguments of one job, started as this process was."""
    return [sys.executable, *python_arguments("train", script)]


def _sweep_arguments(arguments: Sequence[str], folder: Path) -> list[str]:
    """The ``sweep.*`` arguments of the command that continues this sweep: the same, and its name."""
    kept = [text for text in arguments if text.startswith("sweep.") and not text.startswith("sweep.name=")]
    return [*kept, f"sweep.name={folder.name}"]


def _logger_settings(plan: Plan, record: SweepRecord, job: JobRecord) -> list[str]:
    """Group and tags of a run, for dashboards; what the command line says of either is left as it is."""
    tags = ",".join(_quoted(_tag(part)) for part in job.condition.split(",") if "=" in part)
    settings = {"logger.group": _quoted(record.name), "logger.tags": f"[{tags}]"}
    given = {text.partition("=")[0] for text in plan.common}
    return [f"{key}={value}" for key, value in settings.items() if key not in given]


def _tag(text: str) -> str:
    """A tag that W&B takes: a longer text is cut off, and told from others by its hash."""
    if len(text) <= LONGEST_TAG:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: LONGEST_TAG - len(digest) - 1]}-{digest}"


def _quoted(text: str) -> str:
    """A value that Hydra's grammar takes as it is."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _report(folder: Path) -> None:
    """Compare the runs; a sweep that cannot be compared has still been run."""
    try:
        importlib.import_module("gpt2lab.commands.reporting").report_sweep(folder)
    except UserError as error:
        log.warning("no report: %s", one_line(error))
