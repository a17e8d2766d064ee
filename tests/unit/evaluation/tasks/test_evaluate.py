"""Where the questions of tasks are read from, and what is said of malformed ones."""

import json
import logging
from types import SimpleNamespace

import datasets
import pytest

from gpt2lab.config import TasksConfig, UserError
from gpt2lab.evaluation.tasks.evaluate import evaluate_tasks, read_tasks
from gpt2lab.evaluation.tasks.lm_eval import as_lm
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


def test_questions_that_do_not_fit_into_the_context_are_counted(loaded, tmp_path, caplog):
    """A context of 20 tokens holds a passage of 21 bytes, whose last one is a target only."""
    passages = [f"{'x' * (length - 3)} yz" for length in (12, 21, 22, 40)]
    (tmp_path / "lambada_openai.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in passages))
    metrics = evaluate_tasks(loaded, settings_of(tmp_path, names=["lambada_openai"])).metrics.to_dict()
    assert metrics["lambada_openai"]["truncated"] == 2
    said = "2 of 4 %s do not fit into the model's context of 20 tokens; the beginning of their text is left out"
    assert caplog.messages == [f"lambada_openai: {said % 'questions'}"]
    as_lm(loaded, 2).loglikelihood([SimpleNamespace(args=(text[:-3], text[-3:])) for text in passages])
    assert caplog.messages[1:] == [f"lm_eval: {said % 'requests'}"]
