"""The table; published metrics; the parts by name."""

import re
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from gpt2lab.config import EvalConfig, UserError
from gpt2lab.evaluation.parts import PARTS, explaining_memory_of, prepare_parts
from gpt2lab.evaluation.published import PUBLISHED_TASKS, QUESTIONS, find_published, find_published_task
from gpt2lab.evaluation.results import PartResult, TableRow
from gpt2lab.evaluation.table import render_parts
from gpt2lab.evaluation.tasks.tasks import TASKS


@dataclass(frozen=True)
class PlainMetrics:
    """Metrics by name."""

    values: dict

    def to_dict(self):
        return self.values


PARTS_RUN = {
    "perplexity": PartResult(
        "Perplexity of x",
        PlainMetrics({"token_perplexity": 20.5}),
        [TableRow("token_perplexity", 20.5, (19.0, 22.0), 19.44, "page")],
        {"text": "x.txt", "tokenizer": "gpt2", "stride": 8},
    ),
    "tasks": PartResult(
        "Zero-shot tasks", PlainMetrics({"x": {"acc": 0.5}}), [TableRow("x acc", 0.5)], {"text": "x.txt"}
    ),
}


def test_parts_have_titled_sections_below_one_block_of_settings():
    assert render_parts(PARTS_RUN).split("\n") == [
        "settings        text x.txt; tokenizer gpt2",
        "perplexity      stride 8",
        "",
        "Perplexity of x",
        "---------------",
        "metric              value       95 % interval  published  where",
        "token_perplexity  20.5000  19.0000 to 22.0000    19.4400  page",
        "",
        "Zero-shot tasks",
        "---------------",
        "metric   value",
        "x acc   0.5000",
    ]


def test_part_as_plain_values():
    assert PARTS_RUN["perplexity"].to_dict()["protocol"]["stride"] == 8
    assert PartResult("t", PlainMetrics({"a": 1}), []).to_dict() == {"a": 1}


def of(checkpoint):
    return SimpleNamespace(origin={"checkpoint": checkpoint})


GPT2 = of("openai-community/gpt2")
WIKITEXT = {"corpus": "wikitext2", "split": "test", "text_words": 241_211, "text_line_ends": 4_358}
HUGGING_FACE = {**WIKITEXT, "protocol": "huggingface", "detokenizer": "none", "stride": 1024}
LM_EVAL = {**WIKITEXT, "protocol": "lm_eval", "detokenizer": "wikitext"}
PAPER = {
    "corpus": "ptb", "split": "test", "text_words": 78_669, "text_line_ends": 3_761, "protocol": "gpt2_paper",
    "detokenizer": "ptb", "stride": 32, "words_by": "white space and line ends",
}  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "metric", "value", "changes"),
    [
        (HUGGING_FACE, "token_perplexity", 29.94, {"stride": 512, "detokenizer": "wikitext"}),
        (LM_EVAL, "word_perplexity", 37.37, {"stride": 32, "detokenizer": "none", "protocol": "stream"}),
        (PAPER, "word_perplexity", 65.85, {"words_by": "white space", "stride": 1024, "detokenizer": "none"}),
    ],
)
def test_a_published_value_disappears_where_one_condition_differs(protocol, metric, value, changes):
    assert find_published(GPT2, protocol)[metric][0] == value
    assert find_published(of("runs/mine"), protocol) == {}
    wrong = {"split": "validation", "corpus": "text_file", "text_words": 217_646, "text_line_ends": 1}
    for key, other in {**wrong, **changes}.items():
        assert find_published(GPT2, {**protocol, key: other}) == {}, key


def test_published_value_of_wikitext103_is_of_disjoint_windows():
    disjoint = {
        **WIKITEXT, "corpus": "wikitext103", "protocol": "gpt2_paper", "detokenizer": "wikitext", "stride": 1024,
        "words_by": "white space and line ends",
    }  # fmt: skip
    medium = of("openai-community/gpt2-medium")
    assert find_published(medium, disjoint)["word_perplexity"][0] == 26.37
    assert find_published(medium, {**disjoint, "stride": 32}) == {}
    assert find_published(medium, PAPER)["word_perplexity"][0] == 47.33


def test_published_values_of_tasks_are_of_whole_sets():
    assert find_published_task(GPT2, "hellaswag", 10_042)["acc_norm"][0] == 0.3114
    assert find_published_task(GPT2, "hellaswag", 1_000) == find_published_task(of("x"), "hellaswag", 10_042) == {}
    assert PUBLISHED_TASKS["openai-community/gpt2-medium", "cbt_ne"]["acc"][0] == 0.871
    assert {task for _, task in PUBLISHED_TASKS} <= set(QUESTIONS) <= set(TASKS)


def test_parts_are_checked_before_any_is_prepared(monkeypatch):
    ran = []
    monkeypatch.setitem(PARTS, "perplexity", lambda subject, config: ran.append(subject))
    with pytest.raises(UserError, match="eval.parts=taks: expected one of perplexity, tasks.*did you mean tasks"):
        prepare_parts(None, EvalConfig(parts=["perplexity", "taks"]))
    assert ran == []
    assert prepare_parts("subject", EvalConfig(parts=["perplexity"])) == {"perplexity": None}
    assert ran == ["subject"]
    with pytest.raises(UserError, match="eval.parts"):
        EvalConfig(parts=[])


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_does_not_fit_says_what_to_type(part):
    key = "eval.batch_size" if part == "perplexity" else f"eval.{part}.batch_size"
    line = rf"^out of memory in eval\.parts={part} with {key}=(\d+): type {key}=(\d+)$"
    with pytest.raises(UserError, match=line) as raised, explaining_memory_of(part, EvalConfig()):
        raise torch.OutOfMemoryError("CUDA out of memory")
    now, smaller = map(int, re.match(line, str(raised.value)).groups())
    assert now == 2 * smaller
