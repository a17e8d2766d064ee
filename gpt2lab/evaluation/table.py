"""What is shown and kept of an evaluation: sections -> one table, and the content of ``eval.json``."""

from typing import Any

from gpt2lab.evaluation.results import Row, Section

HEADER = ("figure", "value", "95 % interval", "published", "where")


def as_record(origin: dict[str, Any], sections: dict[str, Section]) -> dict[str, Any]:
    """``eval.json``: where the model is from, the perplexity's figures by their own names, other parts under theirs."""
    record = dict(origin)
    for name, section in sections.items():
        record |= section.figures if name == "perplexity" else {name: section.figures}
    return record


def as_table(sections: dict[str, Section]) -> str:
    """All rows of all sections as aligned columns; those that no row fills are left out."""
    lines = [HEADER, *(_cells(row) for section in sections.values() for row in section.rows)]
    filled = [i for i in range(len(HEADER)) if any(line[i] for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in filled}
    return "\n".join("  ".join(line[i].ljust(widths[i]) for i in filled).rstrip() for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    interval = f"{_number(row.interval[0])} to {_number(row.interval[1])}" if row.interval else ""
    published = "" if row.published is None else _number(row.published)
    return row.name, _number(row.value), interval, published, row.published_in or ""


def _number(value: float) -> str:
    return f"{value:,.4f}" if abs(value) < 1e6 else f"{value:.4g}"
