"""Where the questions of tasks are read from, and what is said of malformed ones."""

import json
import logging

import datasets
import pytest

from gpt2lab.config import TasksConfig, UserError
from gpt2lab.evaluation.tasks.evaluate import evaluate_tasks, read_tasks
from tests.unit.evaluation.tasks.conftest import settings_of

HELLASWAG = {"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "label": 0, "endings": ["d", "e"]}
CBT = {"sentences": ["x y"], "question": "a XXXXX", "answer": "cat", "options": ["cat", "cats"]}


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        (
            "hellaswag",
            {name: HELLASWAG[name] for name in HELLASWAG if name != "endings"},
            "line 1 has no field endings",
        ),
        ("hellaswag", HELLASWAG | {"ctx_a": 1}, "question 1: ctx_a is 1, expected a text"),
        ("hellaswag", HELLASWAG | {"ctx_a": "\ud800"}, "question 1: ctx_a is .*, expected a text in Unicode"),
        ("hellaswag", HELLASWAG | {"endings": [1, 2]}, r"question 1: endings is \[1, 2\], expected a list of texts"),
        ("hellaswag", HELLASWAG | {"label": "x"}, "hellaswag.jsonl: question 1: answer 'x'"),
        ("hellaswag", None, "the file is empty"),
        ("cbt_cn", CBT | {"sentences": [1, 2]}, r"sentences is \[1, 2\], expected a list of texts"),
        ("cbt_cn", CBT | {"options": ["cat", "cat"]}, "question 1: options .* expected words that differ"),
        ("lambada_openai", {"text": "word"}, "lambada_openai.jsonl: question 1: a passage of one word"),
    ],
)
def test_malformed_questions(tmp_path, task, content, message):
    (tmp_path / f"{task}.jsonl").write_text(json.dumps(content) if content else "")
    with pytest.raises(UserError, match=message) as error:
        read_tasks(settings_of(tmp_path, names=[task]).tasks, "eval.tasks.folder")
    assert "\n" not in str(error.value)


def test_a_word_may_begin_another_one(tmp_path):
    (tmp_path / "cbt_cn.jsonl").write_text(json.dumps(CBT))
    questions = read_tasks(settings_of(tmp_path, names=["cbt_cn"]).tasks, "eval.tasks.folder")
    assert questions["cbt_cn"][0].requests == [("x y a", " cat"), ("x y a", " cats")]


def test_tasks_that_are_not_there(loaded, tmp_path, monkeypatch, caplog):
    with pytest.raises(UserError, match=r"expected some of lambada_openai.*eval.tasks.lm_eval="):
        evaluate_tasks(loaded, settings_of(tmp_path))
    with pytest.raises(UserError, match="eval.tasks.names=helaswag: expected.*did you mean hellaswag"):
        evaluate_tasks(loaded, settings_of(tmp_path, names=["helaswag"]))

    def offline(*_, **__):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    settings = TasksConfig(names=["cbt_cn"], folder=str(tmp_path))
    with (
        caplog.at_level(logging.INFO, logger="gpt2lab"),
        pytest.raises(UserError, match=r"put its questions into FOLDER/cbt_cn.jsonl.*eval.tasks.folder=FOLDER"),
    ):
        read_tasks(settings, "eval.tasks.folder")
    assert caplog.messages == [f"cbt_cn: {tmp_path} has no questions of it, so they are the Hub's"]
    with pytest.raises(UserError, match=r"^training.eval_tasks_folder=typo: no such folder; expected .*, or null"):
        read_tasks(TasksConfig(names=["cbt_cn"], folder="typo"), "training.eval_tasks_folder")
    with pytest.raises(UserError, match=r"^eval.tasks.folder=typo: no such folder"):
        evaluate_tasks(loaded, settings_of("typo", lm_eval=["hellaswag"]))
