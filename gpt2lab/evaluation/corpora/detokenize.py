"""A corpus's own tokenization undone: text with spaces around its punctuation -> text as people write it.

The rules for WikiText and Penn Treebank are those of Megatron-LM (tasks/zeroshot_gpt/detokenizer.py), and the ones for
WikiText also lm-evaluation-harness's (tasks/wikitext/preprocess_wikitext.py), rule for rule, so that values can be
set beside theirs. OpenAI's own, of which the GPT-2 paper speaks (Radford et al. 2019, section 3.1), are unpublished.
"""

import re
from collections.abc import Callable

CONTRACTIONS = [("s '", "s'")]
NUMBER_SEPARATORS = [(" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", ".")]
PUNCTUATION = [(f" {mark} ", f"{mark} ") for mark in ":;.!?,"]
ENCLOSED = [
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r"\"\s*([^\"]*?)\s*\"", r'"\1"'),
    (r"'\s*([^']*?)\s*'", r"'\1'"),
]
"""brackets and quotes lose the spaces on their inner side"""
HEADINGS = [("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" \N{DEGREE SIGN} ", "\N{DEGREE SIGN}")]
LINES = [(" \n", "\n"), ("\n ", "\n")]


def detokenize_wikitext(text: str) -> str:
    """An article of WikiText. The rule with [0-9] is kept as published; its slashes are JavaScript's."""
    text = _replace(text, CONTRACTIONS)
    text = re.sub(r"/' [0-9]/", r"/'[0-9]/", text)
    text = _replace(text, NUMBER_SEPARATORS + PUNCTUATION)
    for pattern, replacement in ENCLOSED:
        text = re.sub(pattern, replacement, text)
    return _replace(text, [*HEADINGS, *LINES, (" N ", " 1 "), (" 's", "'s")])


def detokenize_ptb(text: str) -> str:
    """Sentences of the Penn Treebank as Mikolov prepared it, where N stands for a number."""
    return _replace(text, [(" '", "'"), *LINES, (" n't", "n't"), (" N ", "1 "), ("$ 1", "$1"), ("# 1", "#1")])


def detokenize_cbt(text: str) -> str:
    """Sentences of the Children's Book Test, tokenized as in the Penn Treebank; the rules are gpt2lab's own."""
    text = _replace(text, [("-LRB- ", "("), (" -RRB-", ")"), ("-LSB- ", "["), (" -RSB-", "]")])
    text = _replace(text, [("`` ", '"'), (" ''", '"'), ("` ", "'")])
    return re.sub(r" (n't|'(?:s|m|d|ll|re|ve)|[.,:;!?]|')(?=\W|$)", r"\1", text)


def _replace(text: str, rules: list[tuple[str, str]]) -> str:
    for old, new in rules:
        text = text.replace(old, new)
    return text


def _as_it_is(text: str) -> str:
    return text


DETOKENIZERS: dict[str, Callable[[str], str]] = {
    "none": _as_it_is,
    "wikitext": detokenize_wikitext,
    "ptb": detokenize_ptb,
}
