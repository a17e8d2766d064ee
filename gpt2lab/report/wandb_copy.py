"""The report as a Weights & Biases run of its own in the sweep's group."""

import logging
import os
from pathlib import Path

from gpt2lab.report.results import ReportResult
from gpt2lab.report.tables import conditions_table

log = logging.getLogger(__name__)

PROJECT = "gpt2lab"


def log_to_wandb(report: ReportResult, folder: Path) -> None:
    """Log verdict, table and plots; offline without a key, and a failure never stops the report."""
    try:
        import wandb  # noqa: PLC0415

        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        run = wandb.init(
            project=PROJECT,
            group=report.title,
            name=f"report of {report.title}",
            job_type="report",
            mode="offline" if mode == "offline" else "disabled" if mode == "disabled" else "online",
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
