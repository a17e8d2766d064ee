"""The model card: what tells the numbers of one text apart, and where the weights began."""

import json
from pathlib import Path

import pytest

from gpt2lab.config import CorpusConfig, EvalConfig, StateOfTheUnionConfig, TrainJob, to_dict
from gpt2lab.evaluation import model_card as module
from gpt2lab.evaluation.model_card import model_card
from gpt2lab.weights.checkpoint_format import CheckpointFormat
from gpt2lab.weights.stored_model import StoredModel, TrainedOn


@pytest.fixture
def card_of(tmp_path, monkeypatch):
    """The rows of the card of a run with some settings and evaluations."""

    def make(evaluations=(), summary=None, **settings):
        job = TrainJob(**settings)
        (tmp_path / "summary.json").write_text(json.dumps(summary or {}))
        (tmp_path / "eval.json").write_text(json.dumps({"schema_version": 1, "evaluations": list(evaluations)}))
        monkeypatch.setattr(module, "read_manifest", lambda folder: {"config": to_dict(job)})
        source = StoredModel(
            {"checkpoint": "x", "step": 5}, tmp_path, job.model, CheckpointFormat(), [], job.tokenizer,
            job.model.vocab_size, 64, tmp_path, TrainedOn(StateOfTheUnionConfig(), "f"),
        )  # fmt: skip
        lines = model_card(source, "name", 10, "transformers").splitlines()
        return [tuple(line.strip("| ").split(" | ")) for line in lines if line.startswith("| ") and line != "| | |"]

    return make


def test_card_labels_numbers_of_one_text_by_protocol_stride_and_precision(card_of):
    protocols = [("stream", 8, "fp32"), ("stream", 64, "fp32"), ("stream", 64, "bf16"), ("lm_eval", None, "fp32")]
    evaluations = []
    for number, (name, stride, precision) in enumerate(protocols):
        protocol = {"protocol": name, "precision": precision} | ({} if stride is None else {"stride": stride})
        job = {"eval": to_dict(EvalConfig(text_file=str(Path("folder") / "ev.txt")))}
        evaluations.append(
            {"id": str(number), "part": "perplexity", "step": 5, "protocol": protocol, "job": job, "bits_per_byte": 1.0}
        )
    assert [row[0] for row in card_of(evaluations) if "ev.txt" in row[0]] == [
        "bits_per_byte of ev.txt, protocol stream, stride 8, precision fp32",
        "bits_per_byte of ev.txt, protocol stream, stride 64, precision fp32",
        "bits_per_byte of ev.txt, protocol stream, stride 64, precision bf16",
        "bits_per_byte of ev.txt, protocol lm_eval, precision fp32",
    ]


def test_card_tells_texts_of_one_corpus_and_limited_tasks_apart(card_of):
    def entry(identity, part, metrics, **corpus):
        settings = EvalConfig(corpus=CorpusConfig("text_file", "text", **corpus)) if corpus else EvalConfig()
        job, protocol = {"eval": to_dict(settings)}, {"precision": "fp32"}
        return {"id": identity, "part": part, "step": 5, "protocol": protocol, "job": job, **metrics}

    hub, own = {"path": "Rowan/hellaswag"}, "/home/me/hellaswag.jsonl"
    rows = card_of(
        [
            entry("p1", "perplexity", {"bits_per_byte": 1.0}, file="/home/me/a.txt"),
            entry("p2", "perplexity", {"bits_per_byte": 2.0}, file="/home/me/b.txt"),
            entry("p3", "perplexity", {"bits_per_byte": 3.0}, file="/home/me/old/b.txt"),
            entry("p4", "perplexity", {"bits_per_byte": 4.0}),
            entry("t1", "tasks", {"hellaswag": {"acc": 0.0, "questions": 10042, "source": hub}}),
            entry("t2", "tasks", {"hellaswag": {"acc": 0.5, "questions": 2, "source": hub}, "lm_eval": "0.4"}),
            entry("t3", "tasks", {"hellaswag": {"acc": 1.0, "questions": 1, "source": own}}),
            entry("t4", "tasks", {"piqa": {"acc": 0.25, "limit": 4}, "boolq": {"acc": 0.75, "limit": None}}),
        ]
    )
    assert [row for row in rows if row[0].startswith(("acc", "bits"))] == [
        ("bits_per_byte of text_file (a.txt), precision fp32", "1"),
        ("bits_per_byte of text_file (b.txt), precision fp32, p2", "2"),
        ("bits_per_byte of text_file (b.txt), precision fp32, p3", "3"),
        ("bits_per_byte of validation_split, precision fp32", "4"),
        ("acc of hellaswag, questions: 10,042, precision fp32", "0"),
        ("acc of hellaswag, questions: 2, precision fp32", "0.5"),
        ("acc of hellaswag, questions: 1 of a local file, precision fp32", "1"),
        ("acc of piqa, limit 4, precision fp32", "0.25"),
        ("acc of boolq, precision fp32", "0.75"),
    ]


@pytest.mark.parametrize(
    ("init_from", "shown"), [("gpt2", "gpt2"), ("org/name@main", "org/name@main"), ("/home/me/runs/first", "first")]
)
def test_card_names_the_initial_weights_without_their_path(card_of, init_from, shown):
    assert ("initial weights", shown) in card_of(init_from=init_from)
    assert "initial weights" not in dict(card_of())


def test_card_has_no_row_for_a_number_that_is_not_finite(card_of):
    rows = dict(card_of(summary={"steps": 5, "val_loss": 1000.0, "val_perplexity": None}))
    assert rows["val_loss"] == "1000"
    assert "val_perplexity" not in rows
