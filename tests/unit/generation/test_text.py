"""Text from ids, part by part: stop strings against a search in the whole text, characters of several tokens."""

import random

import pytest

from gpt2lab.generation.text import END_OF_TEXT, LENGTH, STOP, Continuation
from gpt2lab.tokenizers import load_tokenizer

BYTES = load_tokenizer("bytes")


def test_a_character_is_yielded_when_its_last_byte_is_there():
    assert list(Continuation(BYTES.encode("aé本"), BYTES, 10)) == ["a", "é", "本"]


def test_bytes_that_are_no_text_become_the_replacement_character():
    assert Continuation(BYTES.encode("本")[:2], BYTES, 10).finish().text == "\ufffd"


@pytest.mark.parametrize(("limit", "reason"), [(3, LENGTH), (4, END_OF_TEXT)])
def test_finish_reason_says_whether_the_limit_was_reached(limit, reason):
    done = Continuation(BYTES.encode("abc"), BYTES, limit).finish()
    assert (done.text, done.tokens, done.finish_reason) == ("abc", 3, reason)


def test_no_token_is_drawn_after_a_stop_string():
    def ids():
        yield from BYTES.encode("one. two")
        pytest.fail("a token after the stop string was drawn")

    done = Continuation(ids(), BYTES, 100, [" two", "three"]).finish()
    assert (done.text, done.finish_reason, done.tokens) == ("one.", STOP, 8)


@pytest.mark.parametrize("seed", range(200))
def test_text_ends_before_the_first_stop_string_and_no_part_of_it_is_ever_yielded(seed):
    generator = random.Random(seed)
    text = "".join(generator.choice("ab") for _ in range(30))
    stop = ["".join(generator.choice("ab") for _ in range(generator.randrange(3, 7))) for _ in range(2)]
    # of stop strings that end at different tokens, the one that is complete first ends the text
    ends = {end: text.find(end) + len(end) for end in stop if end in text}
    complete = min(ends.values(), default=len(text))
    begins = [end - len(one) for one, end in ends.items() if end == complete]
    expected = text[: min(begins)] if begins else text
    continuation = Continuation(BYTES.encode(text), BYTES, 100, stop)
    parts = list(continuation)
    assert "".join(parts) == continuation.text == expected
    assert continuation.finish_reason == (STOP if begins else END_OF_TEXT)


def test_what_a_stop_string_might_begin_in_is_held_back():
    parts = iter(Continuation(BYTES.encode("xabx"), BYTES, 100, ["abc"]))
    assert [next(parts), next(parts)] == ["x", "abx"]
