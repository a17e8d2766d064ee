"""Detokenizers: strings worked out by hand, lm_eval's own code, and text that comes back."""

import importlib.util
import re
from pathlib import Path

import lm_eval
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.evaluation.corpora.detokenize import detokenize_cbt, detokenize_ptb, detokenize_wikitext


@pytest.mark.parametrize(
    ("tokenized", "text"),
    [
        (" = Robert Boulter = \n", " = Robert Boulter =\n"),
        (" = = Career = = \n \n He won . \n", " == Career ==\n\nHe won.\n"),
        ("5 @,@ 000 men , 3 @.@ 5 tons ; a well @-@ known ship : M .", "5,000 men, 3.5 tons; a well-known ship: M ."),
        ('the " blue " lobster ( or [ red ] one ) is', 'the "blue" lobster (or [red] one) is'),
        ("the ships ' men at 24 \N{DEGREE SIGN} C", "the ships' men at 24\N{DEGREE SIGN}C"),
        ("Who ? Me ! He 's N years old", "Who? Me! He's 1 years old"),
    ],
)  # fmt: skip
def test_wikitext(tokenized, text):
    assert detokenize_wikitext(tokenized) == text


@pytest.mark.parametrize(
    ("tokenized", "text"),
    [
        (" no it was n't black monday \n", " no it wasn't black monday\n"),
        ("the company 's $ N billion and # N million", "the company's $1 billion and #1 million"),
        ("rose N to <unk> \n but \n", "rose1 to <unk>\nbut\n"),
    ],
)
def test_ptb(tokenized, text):
    assert detokenize_ptb(tokenized) == text


@pytest.mark.parametrize(
    ("tokenized", "text"),
    [
        ("`` They are old ladies , '' said the king ;", '"They are old ladies," said the king;'),
        ("I do n't know Tom 's -LRB- or Ann 's -RRB- dog !", "I don't know Tom's (or Ann's) dog!"),
        ("He 'll go , wo n't he ?", "He'll go, won't he?"),
    ],
)
def test_cbt(tokenized, text):
    assert detokenize_cbt(tokenized) == text


@given(st.lists(st.sampled_from([*"\"'()[]{}.,;:!?=@-N5s \n\u00b0", " @-@ ", " = = ", " 's", "word"])).map("".join))
def test_wikitext_rules_are_lm_evals(text):
    assert detokenize_wikitext(text) == LM_EVAL.wikitext_detokenizer({"page": text})


def _lm_evals_rules():
    path = Path(lm_eval.__file__).parent / "tasks" / "wikitext" / "preprocess_wikitext.py"
    spec = importlib.util.spec_from_file_location("preprocess_wikitext", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LM_EVAL = _lm_evals_rules()

WORD = st.sampled_from(["lobster", "ship", "may", "grow", "First", "Homarus", "war", "is", "the", "Navy"])
NUMBER = st.sampled_from(["5", "1,000", "3.75", "1862"])
PLAIN = st.one_of(WORD, NUMBER, st.tuples(WORD, WORD).map("-".join), WORD.map("{}'s".format))
PIECE = st.one_of(PLAIN, PLAIN.map("({})".format), PLAIN.map("[{}]".format), PLAIN.map('"{}"'.format))
SENTENCE = st.lists(st.tuples(PIECE, st.sampled_from(["", "", ",", ";", ":", "!", "?", "."])), min_size=1, max_size=9)
PARAGRAPHS = st.lists(
    SENTENCE.map(lambda pieces: " ".join(word + mark for word, mark in pieces) + " end"), min_size=1, max_size=3
)


def as_wikitext(text):
    """Spaces around punctuation, marked ones within numbers and compounds, as WikiText has them."""
    text = re.sub(r"(?<=\d)([.,])(?=\d)", r" @\1@ ", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " @-@ ", text)
    text = re.sub(r"([(\[])", r"\1 ", text)
    text = re.sub(r"([)\]])", r" \1", text)
    text = re.sub(r'"([^"]*)"', r'" \1 "', text)
    text = re.sub(r"(?<!@)([,;:!?.])(?= )", r" \1", text)
    text = text.replace("'s", " 's")
    return "".join(f" {line} \n" for line in text.split("\n"))


@given(PARAGRAPHS.map("\n".join))
@settings(max_examples=60)
def test_wikitext_comes_back(text):
    assert detokenize_wikitext(as_wikitext(text)).strip() == text


PTB_WORD = st.sampled_from(["do", "does", "company", "they", "stocks", "yen"])
PTB_PIECE = st.one_of(PTB_WORD, PTB_WORD.map("{}n't".format), PTB_WORD.map("{}'s".format), st.just("$1"), st.just("#1"))


@given(st.lists(PTB_PIECE, min_size=1).map(" ".join))
def test_ptb_comes_back(text):
    tokenized = text.replace("n't", " n't").replace("'s", " 's").replace("$1", "$ N").replace("#1", "# N")
    assert detokenize_ptb(f" {tokenized} end \n").strip() == f"{text} end"
