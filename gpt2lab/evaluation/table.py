"""The one table renderer: columns of text, aligned; and the tables of an evaluation made with it."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from gpt2lab.evaluation.results import PartResult, TableRow

WIDTH = 100
HEADER = ("metric", "value", "95 % interval", "published", "where")
DESCRIBED_ONCE = ("text", "corpus", "tokenizer", "precision", "data_fingerprint", "sha256", "hub")
"""settings that the parts of an evaluation share"""


def render_table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, the first being the header, as aligned columns; empty columns are left out.

    The first column is aligned to the left, numbers to the right.
    """
    filled = [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in filled}
    return "\n".join(
        "  ".join(
            line[i].rjust(widths[i]) if _is_number(lines, i) else line[i].ljust(widths[i]) for i in filled
        ).rstrip()
        for line in lines
    )


def render_parts(parts: Mapping[str, PartResult]) -> str:
    """The settings in one block, then a titled section for each part; at most ``WIDTH`` columns wide."""
    return "\n\n".join([_settings(parts), *(_section(part) for part in parts.values())])


def format_number(value: float | None) -> str:
    """Four decimals; a power of ten for what is too large for them."""
    if value is None:
        return ""
    return f"{value:,.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def _section(part: PartResult) -> str:
    body = part.table if part.table is not None else render_table([HEADER, *map(_cells, part.rows)])
    return f"{part.title}\n{'-' * len(part.title)}\n{body}"


def _settings(parts: Mapping[str, PartResult]) -> str:
    """Settings that the parts share once, then those of each part."""
    shared: dict[str, Any] = {}
    for part in parts.values():
        shared |= {name: part.protocol[name] for name in DESCRIBED_ONCE if name in part.protocol}
    lines = [("settings", shared)] + [
        (name, {key: value for key, value in part.protocol.items() if shared.get(key) != value})
        for name, part in parts.items()
    ]
    return "\n".join(
        textwrap.fill(
            f"{name:<14}  " + "; ".join(f"{key} {_short(value)}" for key, value in values.items()),
            WIDTH,
            subsequent_indent=" " * 16,
            break_long_words=False,
        )
        for name, values in lines
        if values
    )


def _short(value: Any) -> str:
    text = str(value)
    is_hash = len(text) == 64 and all(character in "0123456789abcdef" for character in text)
    return text[:12] if is_hash else text


def _cells(row: TableRow) -> tuple[str, ...]:
    interval = f"{format_number(row.interval[0])} to {format_number(row.interval[1])}" if row.interval else ""
    return row.label, format_number(row.value), interval, format_number(row.published), row.published_in or ""


def _is_number(lines: Sequence[Sequence[str]], column: int) -> bool:
    cells = [line[column] for line in lines[1:] if line[column]]
    return column > 0 and all(cell[0].isdigit() or cell[0] in "-+(" for cell in cells)
