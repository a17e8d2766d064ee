"""The compared metric: whether the runs have it, and whether they learned enough for it to say anything."""

import math
from collections.abc import Sequence
from typing import Any

from gpt2lab.config import UserError, did_you_mean
from gpt2lab.report.loading import LoadedRun, is_finite
from gpt2lab.report.words import plural
from gpt2lab.runs.records import COMPLETED

VALIDATION = "val_"
"""beginning of the metrics of a run's last validation"""
LOSSES = ("val_loss", "val_bits_per_byte", "val_perplexity", "best_val_loss", "loss")
"""metrics that fall while a model learns: the others, such as tokens per second, say nothing of its training"""
NO_METRICS = ("schema_version",)
"""numbers in ``summary.json`` that measure nothing"""


def check_metric(loaded: Sequence[LoadedRun], metric: str, average: int) -> None:
    """Raise ``UserError`` if runs are completed and none of them has the metric, or ``average`` validations."""
    completed = [run for run in loaded if run.summary.get("status") == COMPLETED]
    if not completed:
        return
    known = dict.fromkeys(key for run in completed for key, value in run.summary.items() if _is_metric(key, value))
    known = dict.fromkeys(sorted(known, key=lambda key: not key.startswith(VALIDATION)))
    if metric not in known:
        raise UserError(
            f"metric={metric}: no completed run has it; expected one of {', '.join(known)}{did_you_mean(metric, known)}"
        )
    most = max(len(run.validations) for run in completed)
    if most < average:
        raise UserError(
            f"average={average}: the runs have {plural(most, 'validation')}; expected 1 to {most}; for more, train "
            "with a smaller training.eval_every"
        )


def _is_metric(key: str, value: object) -> bool:
    """Whether an entry of ``summary.json`` measures something: a number, or null as the loss of a diverged run."""
    is_number = isinstance(value, int | float) and key not in NO_METRICS
    return is_number or (value is None and key.startswith(VALIDATION))


def ends_above_unigram(summary: dict[str, Any]) -> bool:
    """Whether the validation loss at the end of training is finite, and above what token frequencies alone score."""
    return is_finite(summary.get("val_loss")) and summary["val_loss"] > summary.get("unigram_loss", math.inf)


def is_short_study(summaries: Sequence[dict[str, Any]]) -> bool:
    """Whether most of the runs that ended with a finite validation loss did so above the unigram entropy."""
    ended, above = _ended_and_above(summaries)
    return len(above) > len(ended) / 2


def short_study_banner(summaries: Sequence[dict[str, Any]], metric: str) -> str:
    """Why runs that learned nothing cannot answer; empty where most learned something or another thing is compared."""
    if not (metric.startswith(VALIDATION) and is_short_study(summaries)):
        return ""
    ended, above = _ended_and_above(summaries)
    many = f"all {len(ended)}" if len(above) == len(ended) > 1 else f"{len(above)} of {len(ended)}"
    scores = list(dict.fromkeys(f"{summary['unigram_loss']:.4f}" for summary in above))
    return (
        f"Untrained: {many} {'run' if len(ended) == 1 else 'runs'} ended above the loss that token frequencies alone "
        f"have ({' or '.join(scores)} nats). Whether models that have learned so little are alike says nothing of "
        "trained ones: train longer, or at another learning rate."
    )


def _ended_and_above(summaries: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The runs that ended with a finite validation loss, and those of them that ended above the unigram entropy."""
    ended = [summary for summary in summaries if is_finite(summary.get("val_loss"))]
    return ended, [summary for summary in ended if ends_above_unigram(summary)]
