"""Use of context against single windows scored one at a time, and against what each position scheme promises."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from gpt2lab.config import ContextConfig, UserError
from gpt2lab.evaluation.context.evaluate import evaluate_context
from gpt2lab.evaluation.corpora.tokenized import TokenizedCorpus
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.model import Layout
from gpt2lab.tokenizers import load_tokenizer

BYTES = load_tokenizer("bytes")
TRAINED = 16
TEXT = TokenizedCorpus([np.random.default_rng(i).integers(97, 110, 90 + i) for i in range(3)], {"text": "letters"})
STREAM = [token for document in TEXT.documents for token in (BYTES.eot_id, *document.tolist())]


@pytest.fixture
def make_loaded(tiny_model, cpu):
    def make(positions):
        model = tiny_model(positions=positions, vocab_size=257, block_size=TRAINED)
        return TextModel(model, BYTES, SimpleNamespace(context=TRAINED, document_masking=False), cpu)

    return make


def config_of(**changes):
    return ContextConfig(**{
        "lengths": [0.25, 0.5, 1.0, 3.0], "offsets": [0.0, 0.5, 2.0], "num_blocks": 5, "block_tokens": 3,
        "position_windows": 4, "batch_size": 2,
    } | changes)  # fmt: skip


def nll_alone(model, first, target, offset=0):
    """Nats of token ``target`` of the stream after the tokens from ``first`` on, which stand at ``offset``."""
    ids = torch.tensor([STREAM[first:target]])
    log_p = model(ids, layout=Layout(torch.arange(ids.shape[1])[None] + offset))[0, -1].log_softmax(-1)
    return -log_p[STREAM[target]].item()


def test_each_context_scores_the_same_tokens(make_loaded):
    loaded, longest = make_loaded("rope"), 3 * TRAINED
    metrics = evaluate_context(loaded, config_of(), TEXT).metrics.to_dict()
    assert list(metrics["by_context"]) == ["4", "8", "16", "48"]
    ends = np.linspace(longest + 1, len(STREAM), 5).astype(int)
    for length in (4, 8, 16, 48):
        loss = np.mean([
            nll_alone(loaded.model, end - 1 - length, target) for end in ends for target in range(end - 3, end)
        ])  # fmt: skip
        found = metrics["by_context"][str(length)]
        assert found["loss"] == pytest.approx(loss, abs=1e-4)
        assert found["token_perplexity"] == pytest.approx(math.exp(loss), rel=1e-3)
        assert found["ratio"] == pytest.approx(math.exp(loss - metrics["by_context"]["16"]["loss"]), rel=1e-3)
        within = [BYTES.eot_id not in STREAM[end - length : end - 1] for end in ends]
        assert found["share_within_document"] == np.mean(within)
    assert metrics["by_context"]["16"]["ratio_interval"] == (1, 1)


def test_intervals_are_over_documents(make_loaded):
    """Against a jackknife written out: the blocks of one document are left out together."""
    loaded = make_loaded("rope")
    result = evaluate_context(loaded, config_of(num_blocks=20), TEXT)
    ends = np.linspace(49, len(STREAM), 20).astype(int)
    targets = [target for end in ends for target in range(end - 3, end)]
    document = np.searchsorted(np.cumsum([1 + len(d) for d in TEXT.documents]), targets, side="right")
    assert len(set(document)) == result.protocol["documents"] == 3

    def losses(length):
        return np.array([nll_alone(loaded.model, end - 1 - length, t) for end in ends for t in range(end - 3, end)])

    difference = losses(4) - losses(16)
    without = np.array([difference[document != d].mean() for d in range(3)])
    error = math.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum())
    half = stats.t.ppf(1 - 0.05 / 2 / 3, 2) * error  # three contexts are compared with the trained one
    expected = np.exp(difference.mean() + np.array([-half, half]))
    assert result.metrics.to_dict()["by_context"]["4"]["ratio_interval"] == pytest.approx(expected, rel=1e-3)


def test_one_document_has_no_intervals(make_loaded):
    text = TokenizedCorpus([np.random.default_rng(0).integers(97, 110, 200)], {"text": "letters"})
    result = evaluate_context(make_loaded("rope"), config_of(), text)
    assert result.metrics.to_dict()["by_context"]["4"]["interval"] is None
    assert result.metrics.to_dict()["by_position"][0]["interval"] is None
    assert result.protocol["interval"] == "none: one document says nothing of others"


def test_loss_by_position(make_loaded):
    loaded = dataclasses.replace(make_loaded("alibi"), source=SimpleNamespace(context=12, document_masking=False))
    metrics = evaluate_context(loaded, config_of(), TEXT).metrics.to_dict()
    bins = metrics["by_position"]
    assert [part["first"] for part in bins[1:]] == [part["last"] + 1 for part in bins[:-1]]
    assert (bins[0]["first"], bins[-1]["last"]) == (0, 35)
    assert 12 in [part["first"] for part in bins]  # no bin on both sides of the trained context
    ends = np.linspace(37, len(STREAM), 4).astype(int)
    part = next(part for part in bins if part["first"] == 4)
    loss = np.mean([
        nll_alone(loaded.model, end - 37, end - 36 + position)
        for end in ends
        for position in range(4, part["last"] + 1)
    ])  # fmt: skip
    assert part["loss"] == pytest.approx(loss, abs=1e-4)


def test_only_absolute_positions_are_changed_by_an_offset(make_loaded, positions):
    loaded = make_loaded(positions)
    result = evaluate_context(loaded, config_of(), TEXT)
    by_offset = result.metrics.to_dict()["by_offset"]
    # learned positions end at 16, so that a window of 8 cannot begin at 32
    assert list(by_offset) == (["0", "8"] if positions == "learned" else ["0", "8", "32"])
    ratio = by_offset["8"]["ratio"]
    if positions in ("rope", "alibi", "none"):
        assert ratio == pytest.approx(1, abs=1e-5)
    else:
        assert abs(ratio - 1) > 1e-3
    longest = result.metrics.to_dict()["by_context"].keys()
    ends = np.linspace(int(list(longest)[-1]) + 1, len(STREAM), 5).astype(int)
    loss = np.mean([nll_alone(loaded.model, end - 9, target, 8) for end in ends for target in range(end - 3, end)])
    assert by_offset["8"]["loss"] == pytest.approx(loss, abs=1e-4)


def test_contexts_and_offsets_that_are_left_out_are_named(make_loaded, caplog):
    caplog.set_level("INFO")
    result = evaluate_context(make_loaded("learned"), config_of(lengths=[0.125, 0.25, 0.5, 1.0, 3.0]), TEXT)
    metrics = result.metrics.to_dict()
    assert list(metrics["by_context"]) == ["4", "8", "16"]
    assert (metrics["ends_at"], result.protocol["left_out"]) == (16, [2, 48])
    assert (list(metrics["by_offset"]), result.protocol["left_out_offsets"]) == (["0", "8"], [32])
    assert caplog.messages == [
        "contexts above 16 tokens are left out: model.positions=learned ends at 16",
        "contexts below eval.context.block_tokens=3 tokens are left out",
        "context: intervals over 3 documents are too narrow; expected 60 or more (docs/statistics.md)",
        "windows of 8 tokens that begin above position 8 are left out: model.positions=learned ends at 16",
    ]


def test_figures_do_not_depend_on_the_batch(make_loaded):
    loaded = make_loaded("sinusoidal")
    one, many = (evaluate_context(loaded, config_of(batch_size=n), TEXT).metrics.to_dict() for n in (1, 7))
    for part in ("by_context", "by_offset"):
        for key in one[part]:
            assert one[part][key]["loss"] == pytest.approx(many[part][key]["loss"], abs=1e-5)


def test_no_token_is_scored_twice(make_loaded):
    result = evaluate_context(make_loaded("none"), config_of(num_blocks=1000), TEXT)
    assert result.protocol["blocks"] == (len(STREAM) - 49) // 3 + 1
    assert evaluate_context(make_loaded("none"), config_of(max_tokens=10), TEXT).metrics.reference_context == 8


def test_contexts_shorter_than_a_block_are_left_out(make_loaded):
    result = evaluate_context(make_loaded("rope"), config_of(block_tokens=5), TEXT)
    assert list(result.metrics.to_dict()["by_context"]) == ["8", "16", "48"]
    assert result.protocol["left_out"] == [4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_tokens": 17}, "block_tokens=17: expected no more tokens than the trained context has"),
        ({"lengths": [1.0, 20.0]}, "has 276 tokens, the longest context needs 321: .* eval.context.max_tokens=275"),
    ],
)
def test_what_does_not_fit_is_one_line(make_loaded, changes, message):
    with pytest.raises(UserError, match=message) as error:
        evaluate_context(make_loaded("none"), config_of(**changes), TEXT)
    assert "\n" not in str(error.value)
