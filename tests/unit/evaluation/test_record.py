"""``eval.json`` and ``documents.jsonl`` keep evaluations beside each other."""

import json
import math
import subprocess
import sys

import pytest

from gpt2lab.config import UserError
from gpt2lab.evaluation.record import evaluation_id, read_evaluations, save_record

ORIGIN = {"checkpoint": "runs/a", "step": 3}


def id_of(part="perplexity", origin=ORIGIN, corpus="ptb", sha256="1", **settings):
    return evaluation_id(part, origin, {"corpus": corpus, "sha256": sha256}, settings)


def test_id_tells_model_text_and_settings_apart_but_not_batches():
    first = id_of(stride=4, batch_size=8)
    assert first.startswith("perplexity-ptb-")
    assert id_of(stride=4, batch_size=1) == first
    protocol = {"corpus": "ptb", "sha256": "1", "attention": "within documents"}
    assert evaluation_id("perplexity", ORIGIN, protocol, {"stride": 4}) == first
    others = [
        id_of(stride=5), id_of(stride=4, sha256="2"), id_of(stride=4, corpus="x"), id_of("context", stride=4),
        id_of(stride=4, origin={"checkpoint": "runs/b", "step": 3}),
    ]  # fmt: skip
    assert len({first, *others}) == 6


def test_evaluations_are_kept_and_repeated_ones_replaced(tmp_path):
    path = tmp_path / "new" / "eval.json"
    save_record(path, [{"id": "a", "value": 1}, {"id": "b", "value": 2}], {})
    save_record(path, [{"id": "a", "value": 3}], {})
    assert read_evaluations(path) == [{"id": "b", "value": 2}, {"id": "a", "value": 3}]
    assert json.loads(path.read_text())["schema_version"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["eval.json"]  # no temporary file is left


def test_numbers_that_are_not_finite_are_null_as_json_has_neither(tmp_path):
    intervals = {"token_perplexity": (2.5, math.inf)}
    save_record(tmp_path / "eval.json", [{"id": "a", "token_perplexity": math.nan, "intervals": intervals}], {})
    (entry,) = json.loads((tmp_path / "eval.json").read_text(), parse_constant=pytest.fail)["evaluations"]
    assert entry == {"id": "a", "token_perplexity": None, "intervals": {"token_perplexity": [2.5, None]}}


def test_documents_of_other_evaluations_stay(tmp_path):
    for evaluation, nats in (("a", 1.0), ("ab", 2.0), ("a", 3.0)):
        save_record(tmp_path / "eval.json", [], {evaluation: [{"document": 0, "nats": nats}]})
    lines = [json.loads(line) for line in (tmp_path / "documents.jsonl").read_text().splitlines()]
    assert [(line["evaluation"], line["nats"]) for line in lines] == [("ab", 2.0), ("a", 3.0)]


@pytest.mark.parametrize("content", ["{", "[]", '{"token_perplexity": 3}', '{"schema_version": 9, "evaluations": []}'])
def test_damaged_record_is_one_line_and_stays(tmp_path, content):
    path = tmp_path / "eval.json"
    path.write_text(content)
    with pytest.raises(UserError, match="out=FILE") as error:
        save_record(path, [{"id": "a"}], {})
    assert "\n" not in str(error.value)
    assert path.read_text() == content


EVALUATE = """
import sys
from pathlib import Path
from gpt2lab.evaluation.record import save_record
name = sys.argv[2]
for i in range(15):
    save_record(Path(sys.argv[1]), [{"id": f"{name}-{i}"}], {f"{name}-{i}": [{"document": 0, "nats": 1.0}]})
"""


def test_processes_that_save_at_the_same_time_lose_nothing(tmp_path):
    path = tmp_path / "eval.json"
    processes = [subprocess.Popen([sys.executable, "-c", EVALUATE, str(path), name]) for name in "abc"]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    expected = {f"{name}-{i}" for name in "abc" for i in range(15)}
    assert {entry["id"] for entry in read_evaluations(path)} == expected
    lines = [json.loads(line) for line in (tmp_path / "documents.jsonl").read_text().splitlines()]
    assert {line["evaluation"] for line in lines} == expected
    assert sorted(file.name for file in tmp_path.iterdir()) == ["documents.jsonl", "eval.json"]
