"""The table; published figures; the parts by name."""

from types import SimpleNamespace

import pytest

from gpt2lab.config import EvalConfig, UserError
from gpt2lab.evaluation.parts import PARTS, evaluate_parts
from gpt2lab.evaluation.published import PUBLISHED_PERPLEXITIES, PUBLISHED_TASKS, find_published, find_published_task
from gpt2lab.evaluation.results import PartResult, TableRow
from gpt2lab.evaluation.table import render_parts
from gpt2lab.evaluation.tasks.tasks import TASKS

PARTS_RUN = {
    "perplexity": PartResult(
        "Perplexity of x",
        {"token_perplexity": 20.5},
        [TableRow("token_perplexity", 20.5, (19.0, 22.0), 19.44, "page")],
        {"text": "x.txt", "tokenizer": "gpt2", "stride": 8},
    ),
    "tasks": PartResult("Zero-shot tasks", {"x": {"acc": 0.5}}, [TableRow("x acc", 0.5)], {"text": "x.txt"}),
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
    assert PartResult("t", {"a": 1}, []).to_dict() == {"a": 1}


def test_published_figures_are_of_one_model_text_and_protocol():
    def of(checkpoint):
        return SimpleNamespace(origin={"checkpoint": checkpoint})

    gpt2 = of("openai-community/gpt2")
    assert find_published(gpt2, "wikitext2", "huggingface", 1024)["token_perplexity"][0] == 29.94
    for other in (
        (of("runs/mine"), "wikitext2", "huggingface", 1024),
        (gpt2, "wikitext2", "huggingface", 512),
        (gpt2, "wikitext2", "stream", 1024),
        (gpt2, "text_file", "huggingface", 1024),
    ):
        assert find_published(*other) == {}
    assert find_published_task(gpt2, "hellaswag")["acc_norm"][0] == 0.3114
    assert find_published_task(of("x"), "hellaswag") == {}
    # the paper's table 3, column by column
    medium = "openai-community/gpt2-medium"
    assert PUBLISHED_PERPLEXITIES[medium, "wikitext103", "gpt2_paper", 32]["word_perplexity"][0] == 26.37
    assert PUBLISHED_PERPLEXITIES[medium, "ptb", "gpt2_paper", 32]["word_perplexity"][0] == 47.33
    assert PUBLISHED_PERPLEXITIES[medium, "enwik8", "gpt2_paper", 32]["bits_per_byte"][0] == 1.01
    assert PUBLISHED_TASKS[medium, "cbt_ne"]["acc"][0] == 0.871
    assert {task for _, task in PUBLISHED_TASKS} <= set(TASKS)


def test_parts_are_checked_before_any_runs(monkeypatch):
    ran = []
    monkeypatch.setitem(PARTS, "perplexity", lambda subject, config: ran.append(subject))
    with pytest.raises(UserError, match="eval.parts=taks: expected one of perplexity, tasks.*did you mean tasks"):
        evaluate_parts(None, EvalConfig(parts=["perplexity", "taks"]))
    assert ran == []
    assert evaluate_parts("subject", EvalConfig(parts=["perplexity"])) == {"perplexity": None}
    assert ran == ["subject"]
    with pytest.raises(UserError, match="eval.parts"):
        EvalConfig(parts=[])
