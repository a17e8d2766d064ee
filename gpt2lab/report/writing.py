"""A report as files: Markdown, CSV, LaTeX, plots and one HTML page."""

from pathlib import Path

from gpt2lab.files import write_text
from gpt2lab.report.html import as_html
from gpt2lab.report.plots import write_plots
from gpt2lab.report.results import ReportResult
from gpt2lab.report.text_formats import as_csv, as_curves_csv, as_latex, as_markdown


def write_report(report: ReportResult, folder: Path) -> list[Path]:
    """Write every file of the report and return them, report.md first."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = write_plots(report, folder)
    texts = {
        "report.md": as_markdown(report, [plot.name for plot in plots]),
        "report.html": as_html(report),
        "runs.csv": as_csv(report),
        "curves.csv": as_curves_csv(report),
        "table.tex": as_latex(report),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    report.files = [*(folder / name for name in texts), *plots]
    return report.files
