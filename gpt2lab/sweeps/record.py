"""``sweep.json``: what a sweep consists of and how each of its jobs stands.

The file is written whole and replaced at once, so that a reader never sees half of it. One process at a time works on a
sweep; a lock on its folder sees to that.
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gpt2lab.config import UserError, from_dict, one_line
from gpt2lab.config.relevance import decides_comparison
from gpt2lab.files import parse_json, write_text
from gpt2lab.runs.layout import SWEEP
from gpt2lab.runs.records import COMPLETED, read_summary
from gpt2lab.sweeps.plan import Job, Plan, check_keys, key_of

SCHEMA_VERSION = 1
PENDING, RUNNING, FAILED = "pending", "running", "failed"
"""of a job, beside the ``COMPLETED`` and ``STOPPED`` of its run"""


@dataclass
class JobRecord:
    """How one job stands."""

    name: str
    condition: str
    overrides: list[str]
    run_dir: str
    """relative to the sweep's folder"""
    status: str = PENDING
    """pending | running | completed | failed | stopped"""
    attempts: int = 0
    error: str | None = None
    """last line of a failed attempt"""
    tuning: bool = False
    """whether the job belongs to the tuning, not to the comparison"""


@dataclass
class TunedCondition:
    """What the tuning found for one condition."""

    best: float
    """value used in the comparison"""
    values: list[float]
    mean_losses: list[float | None]
    """mean final validation loss over the tuning seeds, by value; null: a run diverged"""
    at_edge: bool
    """the best value is the smallest or largest one that every seed was trained to the end with, so that a better one
    may lie beyond"""


@dataclass
class SweepRecord:
    """The content of ``sweep.json``."""

    name: str
    axes: dict[str, list[str]]
    seeds: list[str]
    common: list[str]
    """overrides that all jobs share"""
    command: list[str] = field(default_factory=list)
    """of its last start"""
    commit: str | None = None
    jobs: list[JobRecord] = field(default_factory=list)
    """of all its starts"""
    tuning_key: str | None = None
    tuning: dict[str, TunedCondition] = field(default_factory=dict)
    """by condition"""
    schema_version: int = SCHEMA_VERSION

    def job(self, name: str) -> JobRecord:
        """The job of that name."""
        return next(job for job in self.jobs if job.name == name)

    def add(self, jobs: Iterable[Job], *, tuning: bool) -> None:
        """Add the jobs that are not there yet.

        Raises:
            UserError: another job has the name of one of them.
        """
        known = {job.name: job.overrides for job in self.jobs}
        for job in jobs:
            if job.name not in known:
                self.jobs.append(JobRecord(job.name, job.condition, list(job.overrides), job.folder, tuning=tuning))
            elif known[job.name] != list(job.overrides):
                raise UserError(
                    f"sweep.name={self.name}: its job {job.name} has {' '.join(known[job.name])}, this command "
                    f"{' '.join(job.overrides)}; expected the same, or values that differ in letters or digits; "
                    "choose another sweep.name"
                )


def read_sweep(folder: Path) -> SweepRecord:
    """Read ``sweep.json``.

    Raises:
        UserError: it is missing, damaged, or of a newer version.
    """
    path = folder / SWEEP
    if not path.is_file():
        raise UserError(f"{folder}: no {SWEEP}; expected the folder of a sweep, such as runs/sweeps/NAME")
    values = parse_json(path.read_bytes(), path)
    version = values.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(f"{path}: version {version}; expected {SCHEMA_VERSION}; update gpt2lab")
    try:
        return from_dict(SweepRecord, values)
    except (UserError, TypeError) as error:
        raise UserError(f"{path}: damaged: {one_line(error)}; expected the file that a sweep wrote") from error


def write_sweep(folder: Path, record: SweepRecord) -> None:
    """Replace ``sweep.json``."""
    write_text(folder / SWEEP, json.dumps(asdict(record), indent=2) + "\n")


def status_of(job: JobRecord, folder: Path) -> str:
    """How a job stands: completed if, and only if, the summary of its run says so; else as recorded."""
    if read_summary(folder / job.run_dir).get("status") == COMPLETED:
        return COMPLETED
    return PENDING if job.status == COMPLETED else job.status


def continued_text(record: SweepRecord, folder: Path) -> str:
    """What is continued, and how many of its jobs are completed, failed and left."""
    statuses = [status_of(job, folder) for job in record.jobs]
    completed, failed = statuses.count(COMPLETED), statuses.count(FAILED)
    left = len(statuses) - completed - failed
    axes = " ".join(f"{key}={','.join(values)}" for key, values in record.axes.items())
    failures = f", {failed} failed and to be run again" if failed else ""
    return f"continuing {folder} ({axes}): {len(statuses)} jobs, {completed} completed, {left} left{failures}"


def recorded_plan(record: SweepRecord, overrides: Sequence[str]) -> Plan:
    """All jobs of a sweep that has begun, those of its earlier starts included.

    Args:
        record: of the sweep.
        overrides: of its command, the axes among them.
    """
    check_keys(map(key_of, overrides))

    def planned(jobs: Iterable[JobRecord]) -> tuple[Job, ...]:
        return tuple(Job(job.name, job.condition, tuple(job.overrides), job.run_dir) for job in jobs)

    return Plan(
        common=tuple(override for override in overrides if key_of(override) not in record.axes),
        axes=record.axes,
        tuning=planned(job for job in record.jobs if job.tuning),
        jobs=planned(job for job in record.jobs if not job.tuning),
    )


def open_folder(root: Path, name: str | None) -> Path:
    """The folder of a sweep, made if it is not there; without a name a new one called after day and time."""
    if name is not None:
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    root.mkdir(parents=True, exist_ok=True)
    stem = time.strftime("%Y-%m-%d_%H%M%S")
    for number in range(1, 1000):
        folder = root / (stem if number == 1 else f"{stem}_{number}")
        try:
            folder.mkdir()  # exclusive: another sweep of the same second gets the next number
        except FileExistsError:
            continue
        return folder
    raise UserError(f"{root}/{stem}: a thousand sweeps began in this second; name yours with sweep.name=NAME")


def update_record(record: SweepRecord, plan: Plan, tuning_key: str | None) -> None:
    """Extend the record of an earlier start by the cells and seeds that are new.

    Raises:
        UserError: settings that all jobs share and that decide their results have changed, or what varies has, or what
            is tuned, and how.
    """
    if tuning_key != record.tuning_key and any(job.attempts for job in record.jobs):
        before = f"with sweep.tune={record.tuning_key}" if record.tuning_key else "without sweep.tune"
        raise UserError(
            f"sweep.tune={tuning_key or 'null'}: the runs of sweep.name={record.name} were made {before}; expected the "
            "same, so that runs can be compared; choose another sweep.name"
        )
    if tuning_key:
        _check_same_tuning(record, plan, tuning_key)
    for text in plan.common:
        if (key := key_of(text)) in record.axes:
            all_values = dict.fromkeys([*record.axes[key], text.partition("=")[2]])
            raise UserError(
                f"{text}: sweep.name={record.name} varies it; expected two values or more; try "
                f"{key}={','.join(all_values)}"
            )
    recorded, typed = (sorted(filter(_decides_result, overrides)) for overrides in (record.common, plan.common))
    if recorded != typed:
        gone, new = set(recorded) - set(typed), set(typed) - set(recorded)
        difference = ", ".join(
            [*(f"without {text}" for text in sorted(gone)), *(f"with {text}" for text in sorted(new))]
        )
        raise UserError(
            f"sweep.name={record.name}: its runs were made with other common settings ({difference}); expected the "
            "same, so that runs can be compared; choose another sweep.name"
        )
    if set(record.axes) != set(plan.axes):
        raise UserError(
            f"sweep.name={record.name}: it varies {', '.join(record.axes)}, this command {', '.join(plan.axes)}; "
            "choose another sweep.name"
        )
    for key, values in plan.axes.items():
        record.axes[key] += [value for value in values if value not in record.axes[key]]
    record.seeds = list(record.axes.get("seed", []))
    record.common = list(plan.common)


def _decides_result(override: str) -> bool:
    """Whether runs with and without this override cannot be compared; loggers and folders can be changed."""
    key = key_of(override)
    return key == "from" or decides_comparison(key)  # from=RUN brings every setting


def _check_same_tuning(record: SweepRecord, plan: Plan, key: str) -> None:
    """Refuse other values or seeds of the tuning once one of its runs has begun; before, the new ones replace the old.

    Raises:
        UserError: they differ, so that conditions would be tuned unequally.
    """
    earlier = [job for job in record.jobs if job.tuning]
    if not any(job.attempts for job in earlier):
        record.jobs = []  # no comparison begins before it
        return
    for setting, varied in (("sweep.tune_values", key), ("sweep.tune_seeds", "seed")):
        before, now = _values_of(varied, earlier), _values_of(varied, plan.tuning)
        if set(before) != set(now):
            raise UserError(
                f"{setting}=[{','.join(now)}]: the tuning of sweep.name={record.name} has "
                f"[{','.join(before)}]; expected the same, so that all conditions are tuned alike; choose another "
                "sweep.name"
            )


def _values_of(key: str, jobs: Iterable[Job | JobRecord]) -> list[str]:
    """The values that the overrides of jobs give a key, each once."""
    texts = (text for job in jobs for text in job.overrides if text.startswith(f"{key}="))
    return list(dict.fromkeys(text.partition("=")[2] for text in texts))
