"""Whether the jobs of a sweep still have the settings that its runs were made with.

An override such as ``+experiment=NAME`` or ``model=mine`` brings a file, which may have been edited since.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2lab.config import TrainJob, UserError, to_dict
from gpt2lab.config.differences import Difference, differences
from gpt2lab.config.relevance import decides_comparison
from gpt2lab.runs import newest_config
from gpt2lab.runs.records import has_outcome, read_config
from gpt2lab.sweeps.record import SweepRecord

MOST_CHANGES = 3
"""settings that are named"""
AUTO = "auto"


def check_unchanged(record: SweepRecord, folder: Path, jobs: Mapping[str, TrainJob]) -> None:
    """Refuse to continue a sweep whose finished runs were made with other settings than its jobs have now.

    Args:
        record: of the sweep.
        folder: of the sweep.
        jobs: the settings of its jobs by name, composed now.

    Raises:
        UserError: the runs that are left could not be compared with those that are there.
    """
    for job in record.jobs:
        run_dir = folder / job.run_dir
        if job.name not in jobs or not has_outcome(run_dir, job.status, job.error):
            continue
        try:
            recorded = read_config(newest_config(run_dir))
        except (UserError, OSError):  # a lost or damaged record says nothing
            continue
        changes = [change for change in _changes(recorded, jobs[job.name]) if change.key != record.tuning_key]
        if changes:
            more = ", ..." if len(changes) > MOST_CHANGES else ""
            raise UserError(
                f"sweep.name={folder.name}: its run {job.name} was made with other settings than it would have now: "
                f"{', '.join(map(str, changes[:MOST_CHANGES]))}{more}; expected the same, so that runs can be "
                "compared; undo the change of the file that brings them, or choose another sweep.name"
            )


def _changes(recorded: dict[str, Any], job: TrainJob) -> list[Difference]:
    """The settings that decide results and differ; those that only one of two versions knows are left out."""
    now = to_dict(job.with_peak_lr())
    return [
        change
        for change in differences(_common(recorded, now), _common(now, recorded))
        if decides_comparison(change.key) and change.current != AUTO
    ]


def _common(values: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The values whose keys the other one has, too."""
    return {
        key: _common(value, other[key]) if isinstance(value, dict) and isinstance(other[key], dict) else value
        for key, value in values.items()
        if key in other
    }
