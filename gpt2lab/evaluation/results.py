"""What one part of an evaluation hands to the report: figures for ``eval.json``, rows for the table, files kept."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A line of the table at the end of ``eval.py``."""

    name: str
    value: float
    interval: tuple[float, float] | None = None
    """95 % confidence"""
    published: float | None = None
    """the literature's figure for this model under this protocol"""
    published_in: str | None = None
    """where it stands"""


@dataclass(frozen=True)
class Section:
    """The result of one part."""

    figures: dict[str, Any]
    """JSON values, the protocol among them: all that is needed to repeat it"""
    rows: list[Row]
    texts: dict[str, str] = field(default_factory=dict)
    """files to keep beside ``eval.json``, by name: samples, tables"""
