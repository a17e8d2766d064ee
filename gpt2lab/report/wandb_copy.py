"""The report as a Weights & Biases run of its own in the sweep's group."""

import logging
from collections import Counter
from pathlib import Path

from gpt2lab.config import LoggerConfig, UserError, from_dict
from gpt2lab.report.results import ReportResult
from gpt2lab.report.tables import conditions_table
from gpt2lab.runs import read_run
from gpt2lab.training.loggers.weights_and_biases import wandb_mode

log = logging.getLogger(__name__)


def log_to_wandb(report: ReportResult, folder: Path) -> None:
    """Log verdict, table and plots where the runs are, online or offline as they; a failure never stops the report."""
    try:
        import wandb  # noqa: PLC0415

        project, group = project_and_group(report)
        run = wandb.init(
            project=project,
            group=group,
            name=f"report of {report.title}",
            job_type="report",
            mode=wandb_mode(),
            dir=folder,
            settings=wandb.Settings(console="off", silent=True),
        )
        table = conditions_table(report)
        rows = [[cell.text for cell in row] for row in table.rows]
        columns: list[str | int] = [*table.headings]
        run.log({"report/conditions": wandb.Table(columns=columns, data=rows)})
        run.log({f"report/{path.stem}": wandb.Image(str(path)) for path in report.files if path.suffix == ".png"})
        run.summary["verdict"] = report.verdict
        run.finish()
    except Exception as error:  # a dashboard is a copy; the files are written
        log.warning("wandb: the report was not logged (%s); report.html has everything", error)


def project_and_group(report: ReportResult) -> tuple[str, str]:
    """W&B project and group of most of the runs, by their ``config.yaml``; of those with ``logger=wandb`` if some have.

    The group is the report's title where the runs have none.
    """
    loggers = []
    for run in report.runs:
        try:
            loggers.append(from_dict(LoggerConfig, read_run(run.path).config.get("logger") or {}, "logger"))
        except UserError:  # the report names what is damaged
            continue
    logged = [logger for logger in loggers if "wandb" in logger.names] or loggers
    places = Counter((logger.project, logger.group or report.title) for logger in logged)
    return max(places, key=places.__getitem__, default=(LoggerConfig.project, report.title))
