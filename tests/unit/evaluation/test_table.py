"""The table; published figures; the parts by name."""

from types import SimpleNamespace

import pytest

from gpt2lab.config import EvalConfig, UserError
from gpt2lab.evaluation.parts import EVALUATIONS, run_parts
from gpt2lab.evaluation.published import PERPLEXITIES, TASKS, find_published, find_published_task
from gpt2lab.evaluation.results import Row, Section
from gpt2lab.evaluation.table import as_record, as_table
from gpt2lab.evaluation.tasks.tasks import TASKS as OUR_TASKS

PERPLEXITY_ROW = Row("token_perplexity", 20.5, (19.0, 22.0), 19.44, "page")
SECTIONS = {
    "perplexity": Section({"token_perplexity": 20.5, "tokens": 7}, [PERPLEXITY_ROW]),
    "tasks": Section({"x": {"acc": 0.5}}, [Row("x acc", 0.5)]),
}


def test_one_table():
    assert as_table(SECTIONS).split("\n") == [
        "figure            value    95 % interval       published  where",
        "token_perplexity  20.5000  19.0000 to 22.0000  19.4400    page",
        "x acc             0.5000",
    ]
    assert as_table({"tasks": SECTIONS["tasks"]}) == "figure  value\nx acc   0.5000"


def test_the_record():
    assert as_record({"checkpoint": "c"}, SECTIONS) == {
        "checkpoint": "c", "token_perplexity": 20.5, "tokens": 7, "tasks": {"x": {"acc": 0.5}},
    }  # fmt: skip


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
    assert PERPLEXITIES[medium, "wikitext103", "gpt2_paper", 32]["word_perplexity"][0] == 26.37
    assert PERPLEXITIES[medium, "ptb", "gpt2_paper", 32]["word_perplexity"][0] == 47.33
    assert PERPLEXITIES[medium, "enwik8", "gpt2_paper", 32]["bits_per_byte"][0] == 1.01
    assert TASKS[medium, "cbt_ne"]["acc"][0] == 0.871
    assert {task for _, task in TASKS} <= set(OUR_TASKS)


def test_parts_are_checked_before_any_runs(monkeypatch):
    ran = []
    monkeypatch.setitem(EVALUATIONS, "perplexity", lambda subject, config: ran.append(subject))
    with pytest.raises(UserError, match="eval.parts=taks: expected one of perplexity, tasks.*did you mean tasks"):
        run_parts(None, EvalConfig(parts=["perplexity", "taks"]))
    assert ran == []
    assert run_parts("subject", EvalConfig(parts=["perplexity"])) == {"perplexity": None}
    assert ran == ["subject"]
    with pytest.raises(UserError, match="eval.parts"):
        EvalConfig(parts=[])
