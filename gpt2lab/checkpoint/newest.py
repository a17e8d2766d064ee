"""The run that is meant where none is named, and the checkpoint that is meant where a run is."""

import logging
from pathlib import Path

from gpt2lab.checkpoint.folders import follow_link, list_checkpoints, newest_complete
from gpt2lab.runs import COMPLETED
from gpt2lab.runs.layout import CHECKPOINTS, ENVIRONMENT, LAST, RUNS, SWEEP
from gpt2lab.runs.records import read_summary, written_at_each_start

log = logging.getLogger(__name__)


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a run has a checkpoint, complete or not."""
    folder = run_dir / CHECKPOINTS
    return follow_link(folder / LAST).is_dir() or bool(list_checkpoints(folder))


def runs_with_checkpoint(runs: Path) -> list[Path]:
    """The runs below a folder that have a checkpoint, complete or not."""
    return [folder.parent for folder in runs.glob(f"**/{CHECKPOINTS}") if has_checkpoint(folder.parent)]


def last_checkpoint(run_dir: Path) -> Path | None:
    """The checkpoint that a run saved last; in a copy without the link, the newest complete one, else the newest."""
    folder = run_dir / CHECKPOINTS
    if (last := follow_link(folder / LAST)).is_dir():
        return last.resolve()
    return newest_complete(folder) or next(iter(list_checkpoints(folder)), None)


def newest_run(runs: Path = Path(RUNS)) -> Path | None:
    """The completed run whose last checkpoint is the newest; runs of a sweep are never taken.

    A newer run that was passed over is named in a warning. Without a completed run it is the newest interrupted one,
    with a warning.
    """
    every = sorted(runs_with_checkpoint(runs), key=_saved_at, reverse=True)
    folders = [folder for folder in every if not _is_in_sweep(folder, runs)]
    completed = [folder for folder in folders if read_summary(folder).get("status") == COMPLETED]
    chosen = next(iter(completed or folders), None)
    if chosen is None:
        if every:
            log.warning("all runs are part of sweeps; name one, such as checkpoint=%s", every[0])
    elif not completed:
        log.warning("no run is completed; taking %s, the newest of the others", chosen)
    elif every[0] != chosen:
        reason = "part of a sweep" if _is_in_sweep(every[0], runs) else "not completed"
        log.warning("taking %s; %s is newer, but %s; checkpoint=%s takes it", chosen, every[0], reason, every[0])
    return chosen


def newest_started_run(runs: Path = Path(RUNS)) -> Path | None:
    """The run that started or saved last, completed or not; runs of a sweep are never taken.

    It may have no checkpoint yet: an older run, continued in its place, would be trained with the settings of another.
    """
    started = [path.parent for path in runs.glob(f"**/{ENVIRONMENT}")]
    folders = {folder for folder in (*started, *runs_with_checkpoint(runs)) if not _is_in_sweep(folder, runs)}
    return max(folders, key=lambda folder: max(_saved_at(folder), _started_at(folder)), default=None)


def _saved_at(run_dir: Path) -> float:
    """Modification time of the link to the last checkpoint, else of the newest checkpoint; 0 without one."""
    folder = run_dir / CHECKPOINTS
    if follow_link(folder / LAST).is_dir():
        return (folder / LAST).lstat().st_mtime
    return max((checkpoint.stat().st_mtime for checkpoint in list_checkpoints(folder)), default=0)


def _started_at(run_dir: Path) -> float:
    """Modification time of the record of the last start; 0 without one."""
    return max((path.stat().st_mtime for path in written_at_each_start(run_dir / ENVIRONMENT)), default=0)


def _is_in_sweep(folder: Path, runs: Path) -> bool:
    parents = folder.relative_to(runs).parents
    return any((runs / parent / SWEEP).is_file() for parent in parents)
