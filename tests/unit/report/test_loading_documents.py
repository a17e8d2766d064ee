"""Differences over documents: evaluations of the runs of a synthetic sweep."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from gpt2lab.report.analysis import analyze
from gpt2lab.report.html import as_html
from gpt2lab.report.text_formats import as_markdown
from tests.unit.report.synthetic import TOKENS, of, write_sweep


def test_documents_are_compared_in_pairs(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=2, norms=("layernorm",))
    rng = np.random.default_rng(0)
    tokens, hard = rng.integers(50, 500, 30), rng.normal(3, 0.5, 30)
    for positions, shift in (("learned", 0.0), ("rope", -0.05)):
        for seed in range(2):
            lines = [
                {"document": i, "nats": float(t * (h + shift)), "tokens": int(t), "bytes": int(4 * t)}
                for i, (t, h) in enumerate(zip(tokens, hard, strict=True))
            ]
            text = "\n".join(json.dumps(line) for line in lines)
            (of(folder, positions, seed) / "documents.jsonl").write_text(text)
    (row,) = analyze(folder).documents
    assert (row.documents, row.nats_per_token) == (30, pytest.approx(-0.05))
    assert row.interval == pytest.approx((-0.05, -0.05))


def test_documents_of_other_evaluations_are_not_mixed(tmp_path):
    """Evaluations of another stride or step, and of runs that are not compared, say nothing of the difference."""
    folder = write_sweep(tmp_path / "s", seeds=2, norms=("layernorm",), lengths=(TOKENS // 2, TOKENS))
    for run in folder.glob("positions=*"):
        steps = json.loads((run / "summary.json").read_text())["steps"]
        shift = 0.0 if steps == TOKENS // 1024 else 1.0  # shorter runs are not compared
        lines = [
            {"evaluation": name, "step": step, "corpus": "c", "protocol": "stream", "settings": settings, "document": i,
             "nats": 100.0 * (3 + own + i / 10), "tokens": 100}
            for name, step, settings, own in (
                ("a", steps, "one", shift), ("b", steps - 1, "one", 5.0 * ("rope" in run.name)),
                ("c", steps, "two" if "rope" in run.name else "three", 7.0),
            )
            for i in range(9)
        ]  # fmt: skip
        (run / "documents.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (row,) = analyze(folder).documents
    assert (row.documents, row.nats_per_token) == (9, pytest.approx(0.0))


def test_evaluations_of_the_same_documents_are_rows_of_their_own(tmp_path):
    """A document scored under two strides is one document; the interval is that of one evaluation."""
    rng = np.random.default_rng(0)
    tokens, hard, effect = rng.integers(200, 2000, 20), rng.normal(4, 0.4, 20), rng.normal(-0.05, 0.12, 20)

    def rows_with(name, evaluations):
        folder = write_sweep(tmp_path / name, seeds=2, norms=("layernorm",))
        for run in folder.glob("positions=*"):
            lines = [
                {"evaluation": settings, "corpus": corpus, "protocol": "stream", "settings": settings, "document": i,
                 "nats": float(tokens[i] * (hard[i] + times * effect[i] * ("rope" in run.name))),
                 "tokens": int(tokens[i])}
                for corpus, settings, times in evaluations
                for i in range(20)
            ]  # fmt: skip
            (run / "documents.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
        report = analyze(folder)
        return {row.evaluation: row for row in report.documents}, report

    (alone,) = rows_with("one", [("val", "a", 1)])[0].values()
    rows, report = rows_with("three", [("val", "a", 1), ("val", "b", 1), ("wikitext2", "c", -3)])
    assert list(rows) == ["val, stream, a", "val, stream, b", "wikitext2, stream, c"]
    assert all(row.documents == 20 for row in rows.values())
    for name in ("val, stream, a", "val, stream, b"):
        assert (rows[name].nats_per_token, rows[name].interval) == (alone.nats_per_token, alone.interval)
    other = rows["wikitext2, stream, c"]
    assert other.nats_per_token == pytest.approx(-3 * alone.nats_per_token)
    ratios = [np.delete(tokens * effect, d).sum() / np.delete(tokens, d).sum() for d in range(20)]
    half = stats.t.ppf(0.975, 19) * math.sqrt(19 / 20 * ((ratios - np.mean(ratios)) ** 2).sum())
    assert alone.interval == pytest.approx((alone.nats_per_token - half, alone.nats_per_token + half))
    assert "| val, stream, b | 20 |" in as_markdown(report, [])
    assert "val, stream, b" in as_html(report)
    assert sum("fewer than 60 are too narrow" in warning for warning in report.warnings) == 3


def test_evaluations_that_cannot_be_told_apart_are_left_out(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=2, norms=("layernorm",))
    for run in folder.glob("positions=*"):
        lines = [
            {"evaluation": name, "corpus": "c", "protocol": "stream", "document": i, "nats": nats, "tokens": 100}
            for name, nats in (("a", 300.0), ("b", 280.0 if "rope" in run.name else 300.0))
            for i in range(9)
        ]
        (run / "documents.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert analyze(folder).documents == []
