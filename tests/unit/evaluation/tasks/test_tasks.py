"""Zero-shot tasks against brute force and hand-made questions."""

import dataclasses
import json
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy import stats

from gpt2lab.config import UserError
from gpt2lab.evaluation import published
from gpt2lab.evaluation.tasks.evaluate import evaluate_tasks
from gpt2lab.evaluation.tasks.likelihoods import (
    EncodedRequest,
    Likelihood,
    Request,
    encode_request,
    score_encoded,
    score_requests,
)
from gpt2lab.evaluation.tasks.lm_eval import _interval, _plain
from gpt2lab.evaluation.tasks.tasks import TASKS, HellaSwag
from gpt2lab.model.positions import POSITIONS
from gpt2lab.tokenizers import load_tokenizer
from tests.conftest import make_tiny_model
from tests.unit.evaluation.tasks.conftest import BYTES, CONTEXT, settings_of


def brute_force(model, context, continuation):
    """Log-likelihood and greedy tokens, one token at a time, on the last CONTEXT tokens before each."""
    log_p, greedy = 0.0, []
    model.eval()
    ids = (context + continuation)[-CONTEXT - 1 :]
    for i in range(len(ids) - len(continuation), len(ids)):
        with torch.no_grad():
            logits = model(torch.tensor([ids[:i]]))[0, -1].double()
        log_p += logits.log_softmax(0)[ids[i]].item()
        greedy.append(logits.argmax().item() == ids[i])
    model.train()
    return log_p, greedy


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_likelihoods(loaded, batch_size):
    texts = [("", "ab"), ("a", " b"), ("hello", " world"), ("x" * 40, "abc"), ("x", "y" * CONTEXT), ("ab cd", "e")] * 2
    results = score_requests(loaded, [Request(*text) for text in texts], batch_size)
    for (context, continuation), result in zip(texts, results, strict=True):
        ids = BYTES.encode(context) or [BYTES.eot_id]
        log_p, greedy = brute_force(loaded.model, ids, BYTES.encode(continuation))
        assert result.log_likelihood == pytest.approx(log_p, rel=1e-5)
        assert (result.greedy, result.is_greedy, result.tokens) == (greedy, all(greedy), len(greedy))
    assert loaded.model.training
    for wrong in ("", "y" * (CONTEXT + 1)):
        with pytest.raises(UserError, match=f"continuation of {len(wrong)} tokens"):
            score_requests(loaded, [Request("a", wrong)], batch_size)


def test_what_greedy_decoding_writes_is_greedy(loaded):
    prompt = BYTES.encode("seed")
    ids = list(prompt)
    loaded.model.eval()
    for _ in range(4):
        ids.append(loaded.model(torch.tensor([ids]))[0, -1].argmax().item())
    written = ids[len(prompt) :]
    wrong_end = [*written[:-1], (written[-1] + 1) % 256]
    right, wrong = score_encoded(loaded, [EncodedRequest(prompt, written), EncodedRequest(prompt, wrong_end)], 2)
    assert right.is_greedy
    assert wrong.greedy == [True, True, True, False]
    assert not wrong.is_greedy


@contextmanager
def tokens_read(model):
    """The rows and columns of each batch that the model reads."""
    shapes, read = [], model.hidden
    model.hidden = lambda tokens, **more: shapes.append(tuple(tokens.shape)) or read(tokens, **more)
    yield shapes
    del model.hidden


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("batch_size", [1, 2, 30])
def test_a_shared_context_is_read_once_and_changes_no_number(loaded, positions, batch_size):
    """Against each request by itself: contexts that fit, that are cut, and rows too long for all continuations."""
    model = make_tiny_model(positions=positions, block_size=CONTEXT, vocab_size=257)
    loaded = dataclasses.replace(loaded, model=model)
    texts = [(context, ending) for context in ("", "a b", "eight ch", "x" * 18, "y" * 40) for ending in (
        " no", "?", " four", "", " longer than all others"[:CONTEXT - 2], " no")]  # fmt: skip
    requests = [EncodedRequest(BYTES.encode(a) or [256], BYTES.encode(b or "z")) for a, b in texts]
    requests = [requests[i] for i in np.random.default_rng(0).permutation(len(requests))]
    alone = [score_encoded(loaded, [request], 1)[0] for request in requests]
    together = score_encoded(loaded, requests, batch_size)
    for one, other in zip(together, alone, strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-5)
        assert one.greedy == other.greedy
    assert len({round(one.log_likelihood, 2) for one in together}) > 15


def test_the_choices_of_a_question_are_one_row(loaded):
    requests = [EncodedRequest(list(range(10)), [choice]) for choice in range(4)]
    with tokens_read(loaded.model) as shapes:
        score_encoded(loaded, requests, 8)
    assert shapes == [(1, 10)]
    longer = [EncodedRequest(request.context, [*request.continuation, 7, 8]) for request in requests]
    with tokens_read(loaded.model) as shapes:
        score_encoded(loaded, [*longer, EncodedRequest([1], [2, 3])], 8)
    assert shapes == [(2, 10 + 4 * 2)]
    with tokens_read(loaded.model) as shapes:  # 14 + 3 x 2 tokens are the model's context
        score_encoded(loaded, [EncodedRequest([*one.context, 1, 2, 3, 4], one.continuation) for one in longer], 8)
    assert shapes == [(2, CONTEXT)]


def test_space_goes_to_the_continuation():
    gpt2 = load_tokenizer("gpt2")
    assert encode_request(Request("Hello ", "world"), gpt2) == (gpt2.encode("Hello"), gpt2.encode(" world"))
    assert encode_request(Request("", "world"), gpt2) == ([gpt2.eot_id], gpt2.encode("world"))


def likelihood(log_likelihood, tokens=1):
    return Likelihood(log_likelihood, [True] * tokens)


def test_three_ways_to_choose_an_ending():
    row = {
        "activity_label": "A",
        "ctx_a": "B",
        "ctx_b": "",
        "endings": ["ab [left out of the length]", "abcdefgh", "abcd", "x"],
        "label": 1,
    }
    # total: 0 is best; by character: 1; by token: 2
    ways = [likelihood(-3.0, 1), likelihood(-4.0, 2), likelihood(-4.5, 9), likelihood(-50.0, 1)]
    found = {
        gold: [name for name, right in HellaSwag().scores({**row, "label": gold}, ways).items() if right]
        for gold in range(4)
    }
    assert found == {0: ["acc"], 1: ["acc_norm"], 2: ["acc_token"], 3: []}
    with pytest.raises(UserError, match="answer '4': expected one of the 4 choices"):
        HellaSwag().requests({**row, "label": "4"})


def test_words_of_lambada():
    task = TASKS["lambada_openai"]()
    assert task.requests({"text": "he said to Bob Smith's"}) == [Request("he said to Bob", " Smith's")]
    half = task.scores({}, [Likelihood(-2.5, [False, True])])
    assert half == {"acc": 0.0, "acc_last_token": 1.0, "log_likelihood": -2.5}
    with pytest.raises(UserError, match="one word"):
        task.requests({"text": "word"})


CBT = {
    "sentences": ["`` It is late , '' said Tom .", "Ann did n't hear ."],
    "question": "`` XXXXX is deaf , '' said the dog .",
    "answer": "Ann",
    "options": ["Ann", "Tom", "dog"],
}


def test_blanks_of_the_childrens_book_test():
    task = TASKS["cbt_ne"]()
    context = '"It is late," said Tom. Ann didn\'t hear.'
    requests = task.requests(CBT)
    assert requests == [Request(context, f' "{option} is deaf," said the dog.') for option in CBT["options"]]
    assert task.scores(CBT, [likelihood(-3.0), likelihood(-4.0), likelihood(-5.0)]) == {"acc": 1.0}
    assert task.scores(CBT, [likelihood(-3.0), likelihood(-2.0), likelihood(-5.0)]) == {"acc": 0.0}
    for wrong, message in (({"answer": "cat"}, "expected one of the 3 choices"), ({"question": "?"}, "XXXXX")):
        with pytest.raises(UserError, match=message):
            task.requests(CBT | wrong)


def test_figures_of_a_task(loaded, tmp_path, monkeypatch):
    monkeypatch.setitem(published.QUESTIONS, "lambada_openai", 9)
    rows = [{"text": f"a text {i} and word{i}"} for i in range(9)]
    (tmp_path / "lambada_openai.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for limit, used in ((None, rows), (4, rows[:4]), (1, rows[:1])):
        result = evaluate_tasks(loaded, settings_of(tmp_path, names=["lambada_openai"], limit=limit))
        metrics = result.metrics.to_dict()["lambada_openai"]
        log_p = []
        for row in used:
            context, _, word = row["text"].rpartition(" ")
            log_p.append(brute_force(loaded.model, BYTES.encode(context), BYTES.encode(" " + word))[0])
        assert metrics["questions"] == len(used)
        lines = [json.loads(line) for line in result.files["questions.jsonl"].splitlines()]
        assert [(line["task"], line["question"]) for line in lines] == [("lambada_openai", i) for i in range(len(used))]
        assert [line["log_likelihood"] for line in lines] == pytest.approx(log_p, rel=1e-5)
        assert metrics["perplexity"] == pytest.approx(math.exp(-np.mean(log_p)), rel=1e-5)
        by_name = {row.label: row for row in result.rows}
        accuracy = by_name["lambada_openai acc"]
        right = round(accuracy.value * len(used))
        assert accuracy.interval == pytest.approx(stats.binomtest(right, len(used)).proportion_ci(method="wilson"))
        row = by_name["lambada_openai perplexity"]
        assert (row.published == 40.0554) == (limit is None)  # of all questions alone
        if len(used) > 1:
            error = np.std(log_p, ddof=1) / math.sqrt(len(used))
            assert metrics["perplexity_stderr"] == pytest.approx(metrics["perplexity"] * error, rel=1e-4)
            assert row.interval == pytest.approx(
                np.exp(-np.mean(log_p) + np.array([-1, 1]) * 1.959964 * error), rel=1e-4
            )
        else:
            assert metrics["perplexity_stderr"] is None
            assert row.interval is None


def test_a_sentence_that_is_longer_than_the_context(loaded, tmp_path):
    (tmp_path / "cbt_ne.jsonl").write_text(json.dumps(CBT))
    with pytest.raises(UserError, match="tokens: expected 1 to 20"):
        evaluate_tasks(loaded, settings_of(tmp_path, names=["cbt_ne"]))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("acc_norm,none", "acc_norm"),
        ("acc_norm_stderr,none", "acc_norm_stderr"),
        ("exact_match,strict-match", "exact_match strict-match"),
        ("exact_match_stderr,strict-match", "exact_match strict-match_stderr"),
    ],
)
def test_metrics_of_the_harness_keep_their_filter_and_their_error(key, name):
    assert _plain(key) == name


def test_interval_of_lm_evals_metric_is_wilsons_for_a_mean_of_zeros_and_ones():
    samples = [{"acc": float(i == 0), "f1": float(i == 0), "filter": "none"} for i in range(4)]
    wilson = stats.binomtest(1, 4).proportion_ci(method="wilson")
    assert _interval(0.25, 0.2, "acc,none", samples) == pytest.approx((wilson.low, wilson.high))
    assert _interval(0.4, 0.1, "f1,none", samples) == pytest.approx((0.4 - 0.1959964, 0.4 + 0.1959964))
    assert _interval(0.25, None, "acc,strict", samples) is None


def test_interval_of_lm_evals_perplexity_is_that_of_the_mean_log_likelihood():
    """1.96 standard errors on each side would begin below 0."""
    log_p_Q = np.random.default_rng(0).normal(-9, 6, 40)
    samples = [{"perplexity": log_p, "filter": "none"} for log_p in log_p_Q]
    value = float(np.exp(-log_p_Q.mean()))
    low, high = stats.norm.interval(0.95, log_p_Q.mean(), stats.sem(log_p_Q))
    assert _interval(value, 2 * value, "perplexity,none", samples) == pytest.approx((np.exp(-high), np.exp(-low)))
    assert _interval(5.0, 1.0, "perplexity,none", samples) == pytest.approx((5 - 1.959964, 5 + 1.959964))
