"""Sweeps, run directories and globs, as a user names them -> run directories, each with its job in ``sweep.json``."""

import functools
import glob
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2lab.config import UserError
from gpt2lab.report.words import plural
from gpt2lab.runs.layout import CONFIG, SWEEP
from gpt2lab.runs.records import read_object

Job = dict[str, Any]


@dataclass(frozen=True)
class FoundRun:
    """A run directory and its name, which no other of the report has."""

    path: Path
    name: str
    job: Job
    """its entry in ``sweep.json``; empty without one"""


@dataclass(frozen=True)
class FoundRuns:
    """What a report compares."""

    runs: list[FoundRun]
    record: dict[str, Any] = field(default_factory=dict)
    """``sweep.json``, of one sweep alone"""
    warnings: list[str] = field(default_factory=list)


def find_runs(sweep: Path | None, runs: Sequence[str]) -> FoundRuns:
    """Return the runs of a sweep, or those that ``runs`` names; the runs of a tuning are left out.

    Args:
        sweep: folder of a sweep.
        runs: run directories, folders with runs in them, such as sweeps, and globs of both.

    Raises:
        UserError: no such folder, or none with a run.
    """
    if sweep is None:
        found = [run for name in runs for run in _find_named(name)]
        return _without_empty_jobs({folder.resolve(): (folder, job) for folder, job in found})
    if not sweep.is_dir():
        raise UserError(f"sweep={sweep}: no such folder; expected a sweep, such as runs/sweeps/NAME")
    below = {folder.resolve(): (folder, job) for folder, job in _find_below(sweep)}
    if not any((folder / CONFIG).is_file() for folder, _ in below.values()):
        raise UserError(
            f"sweep={sweep}: no run directory below it; expected folders with {CONFIG}: run the sweep first"
        )
    if (sweep / SWEEP).is_file():
        return FoundRuns(_name_apart(below.values()), _sweep_record(sweep / SWEEP))
    return _without_empty_jobs(below)


def _find_named(name: str) -> list[tuple[Path, Job]]:
    """The runs that one entry of ``runs`` names."""
    folder = Path(name)
    if (folder / CONFIG).is_file():
        return [(folder, {})]
    if folder.is_dir():
        found = _find_below(folder)
    else:
        matches = sorted(glob.glob(name))  # noqa: PTH207 - as in a shell; Path.glob would enter the runs at **
        jobs_of = functools.cache(_jobs_of)  # many matches are of one sweep
        found = [run for match in matches for run in _find_matched(Path(match), jobs_of)]
    if not any((path / CONFIG).is_file() for path, _ in found):
        raise UserError(
            f"runs={name}: no {CONFIG} there; expected run directories, such as runs/DAY/TIME, sweeps, such as "
            "runs/sweeps/NAME, or a glob of them"
        )
    return found


def _find_matched(folder: Path, jobs_of: Callable[[Path], dict[Path, Job]]) -> list[tuple[Path, Job]]:
    """The runs that a match of a glob stands for: none for a file, a folder of other things, or a tuning run."""
    if (folder / SWEEP).is_file():
        return _find_below(folder)
    if not (folder / CONFIG).is_file():
        return []
    sweeps = [above for above in folder.resolve().parents if (above / SWEEP).is_file()]
    job = jobs_of(sweeps[0]).get(folder.resolve(), {}) if sweeps else {}
    return [] if job.get("tuning") else [(folder, job)]


def _find_below(root: Path) -> list[tuple[Path, Job]]:
    """The runs of a sweep, or of several sweeps below a folder, also jobs that left nothing; without tuning runs."""
    jobs: dict[Path, Job] = {}
    for record in sorted(root.glob(f"**/{SWEEP}")):
        jobs |= _jobs_of(record.parent)
    folders = sorted(config.parent for config in root.glob(f"**/{CONFIG}") if not _is_inside_run(config, root))
    found = [(folder, jobs.get(folder.resolve(), {})) for folder in folders]
    present = {folder.resolve() for folder in folders}
    found += [(path, job) for path, job in jobs.items() if path not in present]
    return [(folder, job) for folder, job in found if not job.get("tuning")]


def _is_inside_run(config: Path, root: Path) -> bool:
    """Whether a ``config.yaml`` belongs to a run's own subfolder: a checkpoint's, W&B's, an earlier process's."""
    above = config.parent.parents
    return any((folder / CONFIG).is_file() for folder in above if folder != root and root in folder.parents)


def _jobs_of(sweep: Path) -> dict[Path, Job]:
    """The jobs of a sweep by run directory."""
    jobs = _sweep_record(sweep / SWEEP).get("jobs", [])
    return {(sweep / job["run_dir"]).resolve(): job for job in jobs if job.get("run_dir")}


def _sweep_record(path: Path) -> dict[str, Any]:
    """The content of ``sweep.json``; without its jobs, the runs of a tuning would be compared."""
    record = read_object(path)
    jobs = record.get("jobs", [])
    if not (isinstance(jobs, list) and all(isinstance(job, dict) for job in jobs)):
        raise UserError(f"{path}: damaged: expected a list of jobs; restore it")
    return record


def _without_empty_jobs(found: dict[Path, tuple[Path, Job]]) -> FoundRuns:
    """Leave out, with a warning, the jobs that left nothing: without the axes of one sweep, configs tell conditions."""
    started = [(folder, job) for folder, job in found.values() if (folder / CONFIG).is_file()]
    missing = [str(folder) for folder, _ in found.values() if not (folder / CONFIG).is_file()]
    warnings = [
        f"Not shown: {plural(len(missing), 'job')} of sweeps without a {CONFIG} ({', '.join(missing[:3])}"
        f"{', ...' if len(missing) > 3 else ''}); continue the sweep."
    ]
    return FoundRuns(_name_apart(started), warnings=warnings if missing else [])


def _name_apart(found: Collection[tuple[Path, Job]]) -> list[FoundRun]:
    """Name each run as its sweep does, else by its folder; by its path where two would have one name."""
    names = [str(job.get("name") or folder.name) for folder, job in found]
    counts = Counter(names)
    return [
        FoundRun(folder, name if counts[name] == 1 else str(folder), job)
        for (folder, job), name in zip(found, names, strict=True)
    ]
