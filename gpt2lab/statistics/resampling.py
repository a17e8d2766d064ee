"""The jackknife for statistics that count what texts share, such as self-BLEU and distinct-n.

A bootstrap would draw a text twice; it would be its own copy, which raises self-BLEU and lowers distinct-n. The
jackknife leaves texts out and makes no copies.

Legend: S = texts, G = groups of texts.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gpt2lab.statistics.intervals import Interval, t_quantile

Item = TypeVar("Item")

GROUPS = 32
"""groups that the jackknife leaves out in turn"""


def jackknife(
    statistic: Callable[[Sequence[Item]], float], items: Sequence[Item], document_S: NDArray[np.integer]
) -> Interval | None:
    """95 % interval with the variance of the statistic when one group of documents is left out at a time.

    (G - 1) / G x sum of (statistic without group g - their mean)^2 over G groups, t with G - 1 degrees of freedom
    (Shao and Tu 1995, section 2.3). The texts of one document are in one group: they are not independent. Document i
    of those that have a text is in group i mod G.

    Args:
        statistic: of a list of texts.
        items: the texts.
        document_S: number of the document that each is from.

    Returns:
        None for texts of a single document, or where the statistic is NaN.
    """
    _, rank_S = np.unique(document_S, return_inverse=True)
    groups = min(GROUPS, int(rank_S.max()) + 1)
    if groups < 2:
        return None
    group_S = rank_S % groups
    without_G = np.array(
        [statistic([item for item, own in zip(items, group_S, strict=True) if own != g]) for g in range(groups)]
    )
    error = math.sqrt((groups - 1) / groups * ((without_G - without_G.mean()) ** 2).sum())
    half, value = t_quantile(0.975, groups - 1) * error, statistic(items)
    return None if math.isnan(half) or math.isnan(value) else (value - half, value + half)
