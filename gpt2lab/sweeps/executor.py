"""Runs the jobs of a sweep and keeps ``sweep.json`` up to date.

    plan -> jobs that are not completed -> launcher, ``sweep.parallel`` at a time -> status of each -> next

A job is a process of its own: what one does cannot reach the others. SIGINT, SIGTERM, SIGUSR1 and a lost terminal
(SIGHUP, unless it is ignored as under nohup) stop the sweep: nothing new starts, the running jobs save their state and
end, and the same command continues later.
"""

import logging
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gpt2lab.config import UserError, stop_signals
from gpt2lab.config.sweep import SweepConfig
from gpt2lab.runs.layout import CONSOLE
from gpt2lab.runs.records import COMPLETED, STOPPED
from gpt2lab.sweeps.job_files import is_busy, last_error, last_step, result_text, saved_step_text
from gpt2lab.sweeps.launchers import LAUNCHERS, Launcher, RunningJob
from gpt2lab.sweeps.plan import Plan, value_text
from gpt2lab.sweeps.record import (
    FAILED,
    PENDING,
    RUNNING,
    JobRecord,
    SweepRecord,
    TunedCondition,
    status_of,
    write_sweep,
)
from gpt2lab.sweeps.tuning import choose_value, losses_by_value, without_outcome

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
SHOW_SECONDS = 2.0
WAIT_SECONDS = 60.0
"""for a process of an earlier start that still works in a job's folder, as it saves its state"""

CommandOf = Callable[[JobRecord, Sequence[str]], list[str]]
"""the command line of a job, given its record and the overrides that tuning adds"""


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended."""

    folder: Path
    completed: int
    failed: list[str]
    """names of the jobs that failed"""
    stopped_by: int = 0
    """number of the signal that stopped the sweep; 0: it ran to its end"""


@dataclass(frozen=True)
class Attempt:
    """A job at work."""

    job: JobRecord
    process: RunningJob
    console_start: int
    """bytes that earlier attempts have printed"""


@dataclass
class SweepExecutor:
    """Runs the jobs of one sweep and records how each stands."""

    folder: Path
    record: SweepRecord
    sweep: SweepConfig
    command_of: CommandOf
    steps_of: dict[str, int] = field(default_factory=dict)
    """steps of each job by name, for the progress bar"""
    stop_signal: int = 0
    waiting_since: dict[str, float] = field(default_factory=dict)
    """when a job was first found at work in another process, by name"""

    def run(self, plan: Plan) -> SweepResult:
        """Run what is not completed: the tuning, then the comparison, which needs every run of the tuning.

        Raises:
            UserError: the tuning of a condition gave no usable value.
        """
        launcher = LAUNCHERS[self.sweep.launcher](self.sweep, self.folder)
        with self._recording_stop_signals():
            try:
                tuning = [self.record.job(job.name) for job in plan.tuning]
                self._run_jobs(launcher, tuning)
                is_tuned = not self.stop_signal and self._choose_values(tuning)
                if is_tuned:
                    self._run_jobs(launcher, [self.record.job(job.name) for job in plan.jobs])
            finally:
                launcher.close()
        planned = [self.record.job(job.name) for job in (*plan.tuning, *plan.jobs)]
        return SweepResult(
            self.folder,
            sum(job.status == COMPLETED for job in planned),
            [job.name for job in planned if job.status == FAILED],
            self.stop_signal,
        )

    def _run_jobs(self, launcher: Launcher, jobs: Sequence[JobRecord]) -> None:
        waiting = [job for job in jobs if not self._is_completed(job)]
        if done := len(jobs) - len(waiting):
            log.info("%d of %d jobs are completed already", done, len(jobs))
        for job in waiting:
            job.status = PENDING
        running: dict[int, Attempt] = {}
        total = sum(self.steps_of.get(job.name, 1) for job in jobs)
        with tqdm(total=total, unit="step", disable=None, dynamic_ncols=True) as bar:
            bar.update(sum(self.steps_of.get(job.name, 1) for job in jobs if job.status == COMPLETED))
            shown = 0.0
            while running or (waiting and not self.stop_signal):
                while len(running) < launcher.slots and not self.stop_signal and (ready := self._next(waiting)):
                    slot = next(slot for slot in range(launcher.slots) if slot not in running)
                    waiting.remove(ready)
                    running[slot] = self._start(launcher, ready, slot)
                for slot, attempt in list(running.items()):
                    if self.stop_signal:
                        attempt.process.stop()
                    if (status := attempt.process.poll()) is not None:
                        del running[slot]
                        self._record_end(attempt, status)
                if time.monotonic() - shown > SHOW_SECONDS or not running:
                    self._show(bar, jobs, running)
                    shown = time.monotonic()
                time.sleep(POLL_SECONDS)

    def _next(self, waiting: Sequence[JobRecord]) -> JobRecord | None:
        """The first job whose folder no process of an earlier start holds, or that has been waited for long enough."""
        for job in waiting:
            run_dir = self.folder / job.run_dir
            if not is_busy(run_dir):
                return job
            if job.name not in self.waiting_since:
                log.info("%s: waiting for its earlier process, which still saves", job.name)
            since = self.waiting_since.setdefault(job.name, time.monotonic())
            if time.monotonic() - since > WAIT_SECONDS:
                return job  # it says itself what is wrong
        return None

    def _start(self, launcher: Launcher, job: JobRecord, slot: int) -> Attempt:
        run_dir = self.folder / job.run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        job.status, job.error, job.attempts = RUNNING, None, job.attempts + 1
        write_sweep(self.folder, self.record)
        tuned = self.record.tuning.get(job.condition)
        extra = [f"{self.record.tuning_key}={value_text(tuned.best)}"] if tuned and not job.tuning else []
        console = run_dir / CONSOLE
        printed = console.stat().st_size if console.exists() else 0
        return Attempt(job, launcher.start(self.command_of(job, extra), console, slot), printed)

    def _record_end(self, attempt: Attempt, status: int) -> None:
        job = attempt.job
        if status == 0 and self._is_completed(job):
            log.info("%s: completed%s", job.name, result_text(self.folder / job.run_dir))
        elif self.stop_signal:
            job.status = STOPPED
            log.info("%s: stopped%s", job.name, saved_step_text(self.folder / job.run_dir))
        else:
            job.status = FAILED
            job.error = last_error(self.folder / job.run_dir / CONSOLE, attempt.console_start, status)
            log.warning("%s failed: %s", job.name, job.error)
        write_sweep(self.folder, self.record)

    def _is_completed(self, job: JobRecord) -> bool:
        """Whether the run's summary has the status completed; if so the record gets it, too."""
        if status_of(job, self.folder) != COMPLETED:
            return False
        job.status, job.error = COMPLETED, None
        return True

    def _choose_values(self, tuning: Sequence[JobRecord]) -> bool:
        """Fill ``record.tuning`` from the tuning runs; returns whether all of them have an outcome."""
        if missing := without_outcome(tuning, self.folder):
            log.warning(
                "the comparison does not start, since every condition is to be tuned alike; without a result: %d of %d "
                "tuning runs (%s)",
                len(missing),
                len(tuning),
                ", ".join(missing),
            )
            return False
        key = self.record.tuning_key
        for condition in dict.fromkeys(job.condition for job in tuning):
            own = [job for job in tuning if job.condition == condition]
            try:
                tuned = choose_value(losses_by_value(str(key), own, self.folder))
            except ValueError as error:
                raise UserError(f"sweep.tune={key}: {condition}: {error}; try smaller sweep.tune_values") from None
            self.record.tuning[condition] = tuned = self._settled_value(condition, tuned)
            log.info("%s: %s=%s%s", condition, key, value_text(tuned.best), " (at an edge)" if tuned.at_edge else "")
            if tuned.at_edge:
                log.warning(
                    "%s: the best %s is the smallest or largest value that every seed was trained to the end with; a "
                    "better one may lie beyond: try more sweep.tune_values there, and another sweep.name",
                    condition,
                    key,
                )
        if tuning:
            write_sweep(self.folder, self.record)
        return True

    def _settled_value(self, condition: str, tuned: TunedCondition) -> TunedCondition:
        """The value that the condition's runs have, once runs of the comparison have been made; else ``tuned``."""
        before = self.record.tuning.get(condition)
        started = any(job.attempts for job in self.record.jobs if job.condition == condition and not job.tuning)
        if not before or not started or before.best == tuned.best:
            return tuned
        if (before.values, before.mean_losses) == (tuned.values, tuned.mean_losses):  # chosen by an earlier rule
            log.warning(
                "%s: %s=%s is kept, as its runs have it; the rule of this version gives %s",
                condition,
                self.record.tuning_key,
                value_text(before.best),
                value_text(tuned.best),
            )
            return before
        raise UserError(
            f"sweep.name={self.record.name}: {condition}: the tuning now gives {self.record.tuning_key}="
            f"{value_text(tuned.best)}, its runs used {value_text(before.best)}; choose another sweep.name"
        )

    def _show(self, bar: "tqdm[Any]", jobs: Sequence[JobRecord], running: dict[int, Attempt]) -> None:
        """Advance the bar to the steps that all jobs have taken."""
        taken = sum(self.steps_of.get(job.name, 1) for job in jobs if job.status in (COMPLETED, FAILED))
        taken += sum(
            min(last_step(self.folder / attempt.job.run_dir), self.steps_of.get(attempt.job.name, 1))
            for attempt in running.values()
        )
        bar.set_postfix_str(
            f"{sum(job.status == COMPLETED for job in jobs)}/{len(jobs)} jobs, {len(running)} running", refresh=False
        )
        bar.update(max(0, taken - bar.n))

    @contextmanager
    def _recording_stop_signals(self) -> Iterator[None]:
        def record_signal(number: int, frame: object) -> None:
            if not self.stop_signal:
                log.info("stopping: the running jobs save their state")
            self.stop_signal = number

        before = {number: signal.signal(number, record_signal) for number in stop_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def closing_lines(result: SweepResult, record: SweepRecord, command: Sequence[str]) -> str:
    """How the sweep ended, and the command that continues it."""
    total = len(record.jobs)
    lines = [f"sweep {record.name}: {sum(job.status == COMPLETED for job in record.jobs)} of {total} jobs completed"]
    lines += [f"  failed: {name}: {record.job(name).error}" for name in result.failed]
    if result.failed:
        lines.append(f"what a job printed is in {result.folder}/JOB/{CONSOLE}")
    if result.stopped_by or result.failed:
        lines.append(f"to continue, type: {shlex.join(command)}")
    return "\n".join(lines)
