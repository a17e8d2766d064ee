"""``report.md``, ``runs.csv``, ``curves.csv`` and ``table.tex``."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from gpt2lab.report import tables
from gpt2lab.report.loading import with_seconds
from gpt2lab.report.results import ReportResult, Run
from gpt2lab.report.tables import Table
from gpt2lab.report.words import DOCUMENTS_NOTE, EFFECTS_NOTE, FOOTNOTE, PAIRS_NOTE, SCALING_NOTE, plural
from gpt2lab.runs.layout import METRICS
from gpt2lab.runs.records import read_lines, read_summary

SUMMARY_COLUMNS = (
    "val_loss", "val_perplexity", "val_bits_per_byte", "best_val_loss", "loss", "learning_rate", "steps",
)  # fmt: skip
"""what runs.csv has of ``summary.json`` whatever is compared"""
MANY_RUNS = 60
"""above it report.md lists only the runs that need attention; runs.csv has all"""
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "%_&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"−": "$-$", "–": "--", "<": "$<$", ">": "$>$", "√": r"$\sqrt{}$"}
)
"""characters that LaTeX would not print as they are"""


def as_markdown(report: ReportResult, plots: Sequence[str]) -> str:
    """The report as Markdown: the answer, the table, the plots, noise and design, the runs."""
    parts = [f"# {report.title}", f"**{report.verdict}**"]
    if report.banner:
        parts.append(f"> **{report.banner}**")
    parts += ["\n".join(f"> ⚠ {warning}  " for warning in report.warnings)] if report.warnings else []
    parts += ["## Comparison", _markdown(tables.conditions_table(report)), FOOTNOTE]
    if report.speed_up_note:
        parts.append(report.speed_up_note)
    sentences = [c.comparison.sentence for c in report.conditions if c.comparison]
    if len(sentences) > 1:
        parts.append("\n".join(f"- {sentence}" for sentence in sentences))
    parts += [f"![{name.split('.')[0].replace('_', ' ')}]({name})" for name in plots]
    if report.effects:
        note = EFFECTS_NOTE.format(seeds=plural(report.effects[0].seeds, "seed"))
        parts += ["## Main effects and interactions", _markdown(tables.effects_table(report)), note]
    if report.pairs:
        note = PAIRS_NOTE.format(test=report.pairs[0].test)
        parts += ["## All pairs", _markdown(tables.pairs_table(report)), note]
    if report.scaling:
        lines = "\n".join(f"- {row.sentence}" for row in report.scaling)
        parts += ["## Scaling", lines, _markdown(tables.scaling_table(report)), SCALING_NOTE]
    if report.tuning:
        parts += ["## Tuning", _markdown(tables.tuning_table(report)), report.tuning_note]
    if report.documents:
        parts += ["## Over documents", _markdown(tables.documents_table(report)), DOCUMENTS_NOTE]
    parts += ["## Noise floor and design", "\n".join(f"- {line}" for line in [*report.noise, *report.method])]
    if any(c.comparison for c in report.conditions):
        parts.append(_markdown(tables.details_table(report)))
    parts += ["## Every value", _markdown(tables.values_table(report)), "## Runs"]
    runs = tables.runs_table(report)
    if len(runs.rows) > MANY_RUNS:
        attention = [row for row, run in zip(runs.rows, report.runs, strict=True) if not run.is_counted or run.diverged]
        parts.append(f"{len(runs.rows)} runs, in runs.csv. Those that need attention: {len(attention)}.")
        runs = Table(runs.headings, attention)
    parts.append(_markdown(runs) if runs.rows else "")
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rule = ["---", *["---:" for _ in table.headings[1:]]]
    return "\n".join([line(table.headings), line(rule), *(line([cell.text for cell in row]) for row in table.rows)])


def as_csv(report: ReportResult) -> str:
    """One line for each run, numbers in full: the compared metric, then what ``summary.json`` says besides."""
    facts = list(report.runs[0].facts) if report.runs else []
    numbers = list(report.runs[0].numbers) if report.runs else []
    factors = list(report.factors)
    levels = {condition.name: condition.levels for condition in report.conditions}
    fixed = ["condition", "seed", "status", "diverged", "compared", report.metric, *numbers, *facts, "note"]
    others = [name for name in SUMMARY_COLUMNS if name not in fixed]
    last = [*fixed, *others, "run_path"]
    headings = ["run", *(f"factor_{name}" if name in last else name for name in factors), *last]

    def row(run: Run) -> list[object]:
        own, summary = levels.get(run.condition, {}), read_summary(run.path)
        return [
            run.name, *(own.get(f, "") for f in factors), run.condition, run.seed, run.status, run.diverged,
            run.is_counted, run.value, *run.numbers.values(), *run.facts.values(), run.apart or run.error,
            *(summary.get(name) for name in others), run.path,
        ]  # fmt: skip

    return _csv(headings, map(row, report.runs))


def as_curves_csv(report: ReportResult) -> str:
    """One line for each recorded loss or validation of every run; a loss that was not finite is ``nan``."""

    def rows(run: Run) -> Iterator[list[object]]:
        for line, seconds in with_seconds(read_lines(run.path / METRICS)):
            if "loss" in line or "val_loss" in line:
                losses = [math.nan if line.get(key, "") is None else line.get(key, "") for key in ("loss", "val_loss")]
                yield [run.condition, run.seed, run.path, line["step"], line["tokens"], seconds, *losses]

    headings = ["condition", "seed", "run_path", "step", "tokens", "seconds", "loss", "val_loss"]
    return _csv(headings, chain.from_iterable(map(rows, report.runs)))


def _csv(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return out.getvalue()


def as_latex(report: ReportResult) -> str:
    """The table of conditions, for a paper; needs the package booktabs."""
    table = tables.conditions_table(report)
    columns = [table.headings.index(h) for h in ("condition", "n", "mean", "sd", "difference", "95 % interval", "p")]
    lines = [" & ".join(_latex(table.headings[i]) for i in columns) + r" \\", r"\midrule"]
    lines += [" & ".join(_latex(row[i].text) for i in columns) + r" \\" for row in table.rows]
    body = "\n".join(lines)
    return f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"


def _latex(text: str) -> str:
    return text.translate(LATEX)
