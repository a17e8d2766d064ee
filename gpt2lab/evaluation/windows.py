"""How a long text is cut into stretches that fit the model, each token being scored once.

    n tokens, context, stride -> windows

The inputs of a window are tokens [begin, end - 1), its targets those one further on; it scores the targets from
``first_scored`` on, and the earlier ones are context.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray


class Window(NamedTuple):
    """A stretch of the text that goes through the model at once."""

    begin: int
    """first input token"""
    end: int
    """one past the last target"""
    first_scored: int
    """first target that this window scores; the earlier ones are context"""

    def shifted(self, by: int) -> "Window":
        """The same window of a text that begins ``by`` tokens later."""
        return Window(self.begin + by, self.end + by, self.first_scored + by)


class Windows(Sequence[Window]):
    """Windows in an array of 24 bytes each: a text of 200 million tokens has millions of them."""

    def __init__(self, windows: Iterable[Window]) -> None:
        numbers = array("q")
        for window in windows:
            numbers.extend(window)
        self.window_W3 = np.array(numbers, dtype=np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self.window_W3)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | Sequence[Window]:
        if isinstance(index, slice):
            return [Window(*numbers) for numbers in self.window_W3[index].tolist()]
        return Window(*self.window_W3[index].tolist())


def sliding_windows(n_tokens: int, block_size: int, stride: int) -> Iterator[Window]:
    """Windows that score the tokens 1 ... n_tokens - 1 once each, as ``stride`` new targets a window.

    There are at most ``block_size`` inputs; each window after the first reaches back for as much context as fits. With
    ``stride = block_size`` they are the rolling windows of lm-evaluation-harness (``get_rolling_token_windows`` with
    ``context_len=1``), token 0 being its prefix.
    """
    scored_to = 1
    while scored_to < n_tokens:
        end = min(scored_to + (block_size if scored_to == 1 else stride), n_tokens)
        yield Window(max(0, end - 1 - block_size), end, scored_to)
        scored_to = end


def page_windows(n_tokens: int, block_size: int, stride: int) -> Iterator[Window]:
    """Windows as on the page "Perplexity of fixed-length models" of transformers' documentation.

    They begin every ``stride`` tokens and hold ``block_size`` tokens, inputs and targets together. The first token of a
    window is not a target, so with ``stride = block_size`` the first token of each window is scored in none.
    """
    scored_to = 1
    for begin in range(0, n_tokens, stride):
        end = min(begin + block_size, n_tokens)
        first_scored = max(scored_to, begin + 1)
        if first_scored < end:
            yield Window(begin, end, first_scored)
        scored_to = end
        if end == n_tokens:
            break


def scored_tokens(n_tokens: int, windows: Iterable[Window]) -> NDArray[np.bool_]:
    """Which tokens some window scores, [n_tokens]."""
    scored = np.zeros(n_tokens, np.bool_)
    for window in windows:
        scored[window.first_scored : window.end] = True
    return scored
