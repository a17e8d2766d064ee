"""Compare runs: job -> report files and a typed result."""

import logging
from collections.abc import Sequence
from pathlib import Path

from gpt2lab.config import ReportJob, check_kind
from gpt2lab.report.analysis import analyze
from gpt2lab.report.results import ReportResult
from gpt2lab.report.wandb_copy import log_to_wandb
from gpt2lab.report.writing import write_report

log = logging.getLogger(__name__)


def report(job: ReportJob, *, command: Sequence[str] | None = None) -> ReportResult:
    """Compare the runs, write the report and log its first sentence; ``command`` is not needed."""
    check_kind(job, ReportJob, "job", 'compose_config("report", [...])')
    sweep = Path(job.sweep) if job.sweep else None
    result = analyze(
        sweep, job.runs, baseline=job.baseline, metric=job.metric, average=job.average, margin=job.margin,
        allow=job.allow,
    )  # fmt: skip
    folder = Path(job.out) if job.out else sweep or Path("report")
    write_report(result, folder)
    log.info("baseline: %s", result.baseline)
    for warning in result.warnings:
        log.warning("%s", warning)
    if result.banner:
        log.warning("%s", result.banner)
    log.info("\n%s\n", result.verdict)
    log.info("written to %s: report.md, report.html, runs.csv, curves.csv, table.tex and plots", folder)
    if job.wandb:
        log_to_wandb(result, folder)
    return result


def report_sweep(folder: Path) -> ReportResult:
    """The report of a sweep that has just ended, with the default baseline and margin."""
    return report(ReportJob(sweep=str(folder)))
