"""Two models on the same documents: the paired difference with its interval.

What makes a document hard for both models cancels, so this interval is far narrower than those of the two perplexities.
It says whether another text of this kind would give the same order; it says nothing about other training seeds.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import UserError
from gpt2lab.evaluation.results import DocumentScores, PartResult, TableRow
from gpt2lab.statistics.intervals import Interval, describe_document_interval, ratio_difference_interval


@dataclass(frozen=True)
class BaselineComparison:
    """A model against a baseline, on the documents of one corpus; negative: the model predicts them better."""

    baseline: str
    documents: int
    bits_per_byte: float
    """difference, model - baseline"""
    bits_per_byte_interval: Interval | None
    """95 %; None for a single document"""
    nats_per_token: float | None
    """None: the models' tokens differ"""
    nats_per_token_interval: Interval | None
    interval: str
    """how the intervals are computed, and whether the documents are too few"""
    verdict: str
    """better | worse | undecided"""

    def to_dict(self) -> dict[str, Any]:
        """For ``eval.json``."""
        return asdict(self)


def require_same_documents(bytes_D: NDArray[np.int64], bytes_of_baseline_D: NDArray[np.int64], name: str) -> None:
    """Raise ``UserError`` where the scored tokens of two models do not stand for equal bytes of each document."""
    if not np.array_equal(bytes_D, bytes_of_baseline_D):
        raise UserError(
            f"baseline={name}: other bytes were scored; expected the same documents, whole; name one text for both "
            "with eval.text_file=FILE or eval/corpus=NAME, and leave eval.protocol=huggingface, which leaves tokens out"
        )


def compare(scores: DocumentScores, baseline: DocumentScores, name: str) -> BaselineComparison:
    """The paired difference of two models on the same documents, jackknife over documents with t.

    Raises:
        UserError: the documents are not the same.
    """
    require_same_documents(scores.bytes_D, baseline.bytes_D, name)
    in_bits = math.log(2)
    difference_D = scores.nats_D - baseline.nats_D
    by_byte = ratio_difference_interval(scores.nats_D, baseline.nats_D, scores.bytes_D)
    same_tokens = np.array_equal(scores.tokens_D, baseline.tokens_D)
    by_token = ratio_difference_interval(scores.nats_D, baseline.nats_D, scores.tokens_D) if same_tokens else None
    return BaselineComparison(
        baseline=name,
        documents=len(difference_D),
        bits_per_byte=float(difference_D.sum() / scores.bytes_D.sum()) / in_bits,
        bits_per_byte_interval=None if by_byte is None else (by_byte[0] / in_bits, by_byte[1] / in_bits),
        nats_per_token=float(difference_D.sum() / scores.tokens_D.sum()) if same_tokens else None,
        nats_per_token_interval=by_token,
        interval=describe_document_interval(len(difference_D)),
        verdict=_verdict(by_byte),
    )


def comparison_part(comparison: BaselineComparison) -> PartResult:
    """The comparison as a part of the table."""
    rows = [TableRow("bits per byte, difference", comparison.bits_per_byte, comparison.bits_per_byte_interval)]
    if comparison.nats_per_token is not None:
        rows.append(
            TableRow("nats per token, difference", comparison.nats_per_token, comparison.nats_per_token_interval)
        )
    title = (
        f"Against {comparison.baseline}: {comparison.verdict} (paired over {comparison.documents:,} documents)"
    )  # fmt: skip
    return PartResult(title, comparison, rows)


def _verdict(interval: Interval | None) -> str:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "undecided"
    return "better" if interval[1] < 0 else "worse"
