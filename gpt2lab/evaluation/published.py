"""Values published in the literature, each with the conditions that it was taken under.

A value is shown where the evaluation's record agrees with every condition: corpus, split, detokenizer, protocol,
stride, unit, and the text. Texts are identified by their words and line ends, which no other split of a corpus shares.
gpt2lab's machines had no copy of them; a SHA-256, once known, is one more condition. docs/evaluation.md says which of
the GPT-2 paper's columns can be met, and why the others cannot.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gpt2lab.evaluation.perplexity.protocols import LINE_ENDS
from gpt2lab.weights import StoredModel

PAPER = "GPT-2 paper, table 3; its detokenizer and stride are unpublished"
PERPLEXITY_PAGE = "transformers, perplexity page"
HF_13761 = "huggingface/transformers#13761"
NEO_README = "EleutherAI/gpt-neo, README"
LM_EVAL_2159 = "EleutherAI/lm-evaluation-harness#2159"
LLM_C_HELLASWAG = "karpathy/llm.c, dev/data/hellaswag.py"
LM_EVAL_LOG = "a stored log of lm-evaluation-harness, task wikitext"
BFLM = "bflm, eval_lambada.py"

Published = tuple[float, str]
"""a value and where it stands"""


class PublishedEntry(NamedTuple):
    """Published values of one model under the same conditions."""

    checkpoint: str
    conditions: Mapping[str, Any]
    """by the names of an evaluation's protocol in ``eval.json``; None: it has no such entry"""
    values: dict[str, Published]


_SMALL, _MEDIUM, _LARGE, _XL = (f"openai-community/gpt2{size}" for size in ("", "-medium", "-large", "-xl"))

_WIKITEXT_TEST = {"split": "test", "text_words": 241_211, "text_line_ends": 4_358}
"""245,569 words in Merity et al. 2016, who count line ends"""
_PTB_TEST = {"split": "test", "text_words": 78_669, "text_line_ends": 3_761}
_HUGGING_FACE = {"protocol": "huggingface", "detokenizer": "none"}
_LM_EVAL = {"protocol": "lm_eval", "detokenizer": "wikitext", "stride": None}
_GPT2_PAPER = {"protocol": "gpt2_paper", "words_by": LINE_ENDS}

_WIKITEXT: list[tuple[str, dict[str, Any], dict[str, Published]]] = [
    (_SMALL, {**_HUGGING_FACE, "stride": 1024}, {"token_perplexity": (29.94, HF_13761)}),
    (_LARGE, {**_HUGGING_FACE, "stride": 1024}, {"token_perplexity": (19.44, PERPLEXITY_PAGE)}),
    (_LARGE, {**_HUGGING_FACE, "stride": 512}, {"token_perplexity": (16.44, PERPLEXITY_PAGE)}),
    (_SMALL, _LM_EVAL, {"word_perplexity": (37.37, HF_13761), "bits_per_byte": (0.9769, LM_EVAL_LOG)}),
    (_XL, _LM_EVAL, {"word_perplexity": (17.48, NEO_README)}),
]
PUBLISHED_PERPLEXITIES = [
    PublishedEntry(model, {"corpus": corpus, **_WIKITEXT_TEST, **conditions}, values)
    for model, conditions, values in _WIKITEXT
    for corpus in ("wikitext2", "wikitext103")  # they have the same test text
]

_PAPER_COLUMNS: list[tuple[dict[str, Any], tuple[float, ...]]] = [
    ({"corpus": "ptb", "detokenizer": "ptb", "stride": 32, **_PTB_TEST}, (65.85, 47.33, 40.31, 35.76)),
    ({"corpus": "wikitext2", "detokenizer": "wikitext", "stride": 32, **_WIKITEXT_TEST}, (29.41, 22.76, 19.93, 18.34)),
    # disjoint windows: with them lm_eval comes to 37.37 and 17.48 for the smallest and the largest model
    (
        {"corpus": "wikitext103", "detokenizer": "wikitext", "stride": 1024, **_WIKITEXT_TEST},
        (37.50, 26.37, 22.05, 17.48),
    ),
]
PUBLISHED_PERPLEXITIES += [
    PublishedEntry(model, {**_GPT2_PAPER, **conditions}, {"word_perplexity": (value, PAPER)})
    for conditions, values in _PAPER_COLUMNS
    for model, value in zip((_SMALL, _MEDIUM, _LARGE, _XL), values, strict=True)
]

QUESTIONS = {"lambada_openai": 5_153, "hellaswag": 10_042, "cbt_cn": 2_000, "cbt_ne": 2_000}
"""of the split that the values of a task are of: test for LAMBADA, validation for the others"""
_CBT = {"cbt_cn": (0.8765, 0.9235, 0.9345, 0.9330), "cbt_ne": (0.834, 0.871, 0.880, 0.8905)}
PUBLISHED_TASKS: dict[tuple[str, str], dict[str, Published]] = {
    (_SMALL, "lambada_openai"): {
        "acc": (0.3256, LM_EVAL_2159),
        "perplexity": (40.0554, LM_EVAL_2159),
        "acc_last_token": (0.4667, BFLM),
    },
    (_XL, "lambada_openai"): {"acc": (0.5121, NEO_README), "perplexity": (10.634, NEO_README)},
    (_SMALL, "hellaswag"): {"acc": (0.2892, LLM_C_HELLASWAG), "acc_norm": (0.3114, LLM_C_HELLASWAG)},
    (_XL, "hellaswag"): {"acc": (0.4003, NEO_README), "acc_norm": (0.5089, NEO_README)},
    **{
        (model, task): {"acc": (value, "GPT-2 paper, table 3; its detokenizer is unpublished")}
        for task, values in _CBT.items()
        for model, value in zip((_SMALL, _MEDIUM, _LARGE, _XL), values, strict=True)
    },
}
"""by model and task, every question of it"""


def find_published(source: StoredModel, protocol: Mapping[str, Any]) -> dict[str, Published]:
    """What is published of this model under the conditions of an evaluation, by metric.

    Args:
        source: the model.
        protocol: the evaluation's record of how it was made, as in ``eval.json``.
    """
    found = [
        entry.values
        for entry in PUBLISHED_PERPLEXITIES
        if entry.checkpoint == source.origin["checkpoint"]
        and all(protocol.get(name) == value for name, value in entry.conditions.items())
    ]
    return {metric: published for values in found for metric, published in values.items()}


def find_published_task(source: StoredModel, task: str, questions: int) -> dict[str, Published]:
    """What is published of this model on this task, by metric; nothing where the number of questions differs."""
    if QUESTIONS.get(task) != questions:
        return {}
    return PUBLISHED_TASKS.get((str(source.origin["checkpoint"]), task), {})
