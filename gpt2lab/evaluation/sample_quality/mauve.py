"""MAUVE: how much the distributions of human and of drawn texts overlap. Pillutla et al. 2021.

hidden states -> package mauve-text: PCA, k-means, two histograms -> divergence curve -> area under it
"""

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import UserError

PAPER_TEXTS = 5000
"""texts on each side in the paper; with fewer the score is biased upwards, and with few it is next to arbitrary"""


def require_mauve() -> None:
    """Raise ``UserError`` where the package is not installed."""
    if importlib.util.find_spec("mauve") is None:
        raise UserError(
            "eval.sample_quality.mauve_seeds: MAUVE needs the package mauve-text; type pip install 'gpt2lab[mauve]', "
            "or eval.sample_quality.mauve_seeds=0 to go without"
        )


@dataclass(frozen=True)
class Mauve:
    """MAUVE over several runs of k-means."""

    mauve: float
    """mean over the seeds"""
    mauve_sd_over_seeds: float | None
    """None for a single seed"""
    seeds: int
    texts: int
    clusters: int
    note: str | None
    """None: there are as many texts as in the paper"""


def measure_mauve(human_SC: NDArray[np.float32], drawn_SC: NDArray[np.float32], n_seeds: int) -> Mauve:
    """MAUVE of two sets of hidden states with the package's settings, over k-means runs seeded 0, 1, ..."""
    import mauve  # noqa: PLC0415

    runs: list[Any] = [
        mauve.compute_mauve(p_features=human_SC, q_features=drawn_SC, seed=seed) for seed in range(n_seeds)
    ]
    scores = np.array([run.mauve for run in runs])
    return Mauve(
        mauve=float(scores.mean()),
        mauve_sd_over_seeds=float(scores.std(ddof=1)) if n_seeds > 1 else None,
        seeds=n_seeds,
        texts=len(drawn_SC),
        clusters=runs[0].num_buckets,
        note=None if len(drawn_SC) >= PAPER_TEXTS else f"biased upwards: the paper has {PAPER_TEXTS} texts",
    )
