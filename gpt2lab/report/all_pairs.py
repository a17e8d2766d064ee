"""Every condition against every other, for studies without a baseline: Tukey on the block model, else Holm."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from gpt2lab.report.compare import DUNNETT, SIGNED_RANKS, Outcomes
from gpt2lab.report.results import PairRow
from gpt2lab.statistics.blocks import fit_blocks
from gpt2lab.statistics.multiple import bonferroni_critical, holm, tukey_critical, tukey_p
from gpt2lab.statistics.paired import MeanDifference, paired_difference

FEWEST, MOST = 3, 10
"""conditions for which all pairs are listed"""
TUKEY, PAIRED = "Tukey on the block model", "paired t, Holm"


def compare_pairs(outcomes: Sequence[Outcomes], test: str) -> list[PairRow]:
    """Differences of all pairs of conditions, with p values and intervals that hold for all of them together.

    Args:
        outcomes: of each condition, by seed.
        test: that of the comparisons with the baseline; where it pools the noise of all conditions, so does this.

    Returns:
        One row for each pair, without numbers where it shares fewer than two seeds; none for fewer than three or more
        than ten conditions, or where a run diverged.
    """
    if not FEWEST <= len(outcomes) <= MOST or test == SIGNED_RANKS:
        return []
    pairs = list(itertools.combinations(outcomes, 2))
    found = [(first, second, _difference(first, second, outcomes, test)) for first, second in pairs]
    known = [d for _, _, d in found if d is not None]
    if not known:
        return []
    if test == DUNNETT:
        adjusted = iter([tukey_p(d.t, len(outcomes), d.df) for d in known])
        intervals = iter([d.interval(tukey_critical(len(outcomes), d.df)) for d in known])
    else:
        adjusted = iter(holm([d.p for d in known]))
        intervals = iter([d.interval(bonferroni_critical(len(known), d.df)) for d in known])
    name = TUKEY if test == DUNNETT else PAIRED
    return [
        PairRow(second.name, first.name, d.mean, next(intervals), next(adjusted), name)
        if d is not None
        else PairRow(second.name, first.name, None, None, None, name)
        for first, second, d in found
    ]


def _difference(first: Outcomes, second: Outcomes, outcomes: Sequence[Outcomes], test: str) -> MeanDifference | None:
    seeds = sorted(set(first.by_seed) & set(second.by_seed))
    if len(seeds) < 2 or not all(math.isfinite(o.by_seed[seed]) for o in (first, second) for seed in seeds):
        return None
    if test == DUNNETT:
        grid_CS = np.array([o.at(seeds) for o in outcomes])
        return fit_blocks(grid_CS).difference(second.at(seeds), first.at(seeds))
    return paired_difference(second.at(seeds) - first.at(seeds))
