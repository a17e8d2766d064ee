"""From a prompt to text: token ids decoded as they are drawn, and cut at a stop string."""

import codecs
from collections.abc import Iterable, Iterator, Sequence

from gpt2lab.tokenizers import Tokenizer

END_OF_TEXT, STOP, LENGTH = "end_of_text", "stop", "length"
"""why a continuation ends: the model ended it, it came to a stop string, or it has ``max_new_tokens`` tokens"""


class Continuation:
    """The text of one continuation, decoded while it is drawn.

    Iterating yields its text in parts, each as soon as no stop string can begin in it; ``text``, ``tokens`` and
    ``finish_reason`` hold what has come so far. A stop string is not part of the text.
    """

    def __init__(self, ids: Iterable[int], tokenizer: Tokenizer, limit: int, stop: Sequence[str] = ()) -> None:
        """Args: ids: drawn when asked for; limit: ``max_new_tokens``; stop: strings that end the text."""
        self.ids, self.tokenizer, self.limit, self.stop = ids, tokenizer, limit, stop
        self.text = ""
        self.tokens = 0
        self.finish_reason: str | None = None

    def __iter__(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        held = ""
        for token in self.ids:
            self.tokens += 1
            held += decoder.decode(self.tokenizer.decode_bytes([token]))
            cut = find_stop(held, self.stop)
            if cut is not None:
                self.finish_reason = STOP
                yield from self._add(held[:cut])
                return
            ready = len(held) - undecided_length(held, self.stop)
            yield from self._add(held[:ready])
            held = held[ready:]
        held += decoder.decode(b"", final=True)
        self.finish_reason = END_OF_TEXT if self.tokens < self.limit else LENGTH
        yield from self._add(held)

    def finish(self) -> "Continuation":
        """Draw to the end; return itself."""
        for _ in self:
            pass
        return self

    def _add(self, part: str) -> Iterator[str]:
        if part:
            self.text += part
            yield part


def find_stop(text: str, stop: Sequence[str]) -> int | None:
    """Return where the first of the stop strings begins in ``text``; None if there is none."""
    return min((text.index(end) for end in stop if end in text), default=None)


def undecided_length(text: str, stop: Sequence[str]) -> int:
    """Return the length of the longest end of ``text`` that is the beginning of a stop string."""
    longest = max(map(len, stop), default=1) - 1
    lengths = range(min(longest, len(text)), 0, -1)
    return next((n for n in lengths if any(end.startswith(text[-n:]) for end in stop)), 0)
