"""Typed results of an evaluation. They become plain values only where ``eval.json`` is written."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TableRow:
    """A line of the table that ``eval.py`` prints."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    """95 % confidence interval"""
    published: float | None = None
    """the literature's value for this model under this protocol"""
    published_in: str | None = None
    """where that value stands"""


@dataclass(frozen=True)
class DocumentScores:
    """The sums of each document of a corpus, [D] each."""

    nats_D: NDArray[np.float64]
    tokens_D: NDArray[np.int64]
    """scored tokens"""
    bytes_D: NDArray[np.int64]
    words_D: NDArray[np.int64] | None
    """None: the protocol does not count words"""

    def to_lines(self) -> list[dict[str, float | int | None]]:
        """One plain value per document, for ``documents.jsonl``."""
        words = [None] * len(self.nats_D) if self.words_D is None else self.words_D.tolist()
        columns = zip(self.nats_D.tolist(), self.tokens_D.tolist(), self.bytes_D.tolist(), words, strict=True)
        return [
            {"document": i, "nats": nats, "tokens": tokens, "bytes": n_bytes, "words": n_words}
            for i, (nats, tokens, n_bytes, n_words) in enumerate(columns)
        ]


class Metrics(Protocol):
    """The metrics of one part; each part has a dataclass of its own."""

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain values, by the names of ``eval.json``."""
        ...


@dataclass(frozen=True)
class PartResult:
    """The result of one part: perplexity, tasks, sample_quality or context."""

    title: str
    """of its section in the table"""
    metrics: Metrics
    rows: list[TableRow]
    protocol: dict[str, Any] = field(default_factory=dict)
    """all that a repetition needs: text, tokenizer, windows, precision, how intervals are computed"""
    documents: DocumentScores | None = None
    files: dict[str, str] = field(default_factory=dict)
    """texts to keep beside ``eval.json``, by file name"""
    table: str | None = None
    """takes the place of the rows where several columns say more"""

    def to_dict(self) -> dict[str, Any]:
        """Metrics and protocol, as ``eval.json`` has them."""
        metrics = self.metrics.to_dict()
        return {**metrics, "protocol": self.protocol} if self.protocol else metrics


def as_json_lines(lines: Iterable[Mapping[str, Any]]) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(line, default=str) + "\n" for line in lines)


def numbers_in(metrics: dict[str, Any], prefix: str) -> dict[str, float]:
    """The numbers in nested metrics, as ``PREFIX/OUTER/INNER: value``; texts, lists and missing values are left out."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, dict):
            found |= numbers_in(value, f"{prefix}/{key}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}/{key}"] = float(value)
    return found
