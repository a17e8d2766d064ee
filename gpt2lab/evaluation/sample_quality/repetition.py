"""How a single text repeats itself. All functions take the token ids of one text."""

from collections.abc import Sequence

import numpy as np

MIN_REPEATS = 3
MIN_PHRASE = 2


def rep_n(ids: Sequence[int], n: int) -> float:
    """Share of n-grams that occurred before in the text, 1 - distinct / all; NaN where there is none.

    seq-rep-n of Welleck et al. 2020.
    """
    total = len(ids) - n + 1
    if total < 1:
        return float("nan")
    return 1 - len({tuple(ids[i : i + n]) for i in range(total)}) / total


def longest_loop(ids: Sequence[int]) -> int:
    """Tokens of the longest stretch that is one phrase, at least 3 times in a row; 0 without one.

    The last repeat may be cut off after the third. A text that repeats with period p has ids[i] = ids[i - p] all along.
    """
    ids_N, longest = np.asarray(ids), 0
    for period in range(1, len(ids_N) // MIN_REPEATS + 1):
        repeated = _longest_run(ids_N[period:] == ids_N[:-period])
        if repeated >= (MIN_REPEATS - 1) * period:
            longest = max(longest, repeated + period)
    return longest


def ends_in_loop(ids: Sequence[int]) -> bool:
    """Whether the text ends with a phrase of at least 2 tokens, 3 times or more (Holtzman et al. 2020, section 5).

    This is the paper's wording; the authors' code has another rule, so their Table 1 is not comparable.
    """
    ids_N = np.asarray(ids)
    return any(
        bool((ids_N[-(MIN_REPEATS - 1) * p :] == ids_N[-MIN_REPEATS * p : -p]).all())
        for p in range(MIN_PHRASE, len(ids_N) // MIN_REPEATS + 1)
    )


def _longest_run(same: np.ndarray) -> int:
    """The most True values in a row."""
    edges = np.flatnonzero(~np.concatenate([[False], same, [False]]))
    return int(np.diff(edges).max()) - 1
