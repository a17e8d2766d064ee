"""Measures of samples against libraries and hand-made texts; the part as a whole on a tiny model of bytes."""

import copy
import dataclasses
import itertools
import json
import math
import random
from collections import Counter
from types import SimpleNamespace
from unittest import mock

import mauve
import numpy as np
import pytest
import torch
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from scipy import stats

from gpt2lab.config import DecodingConfig, SampleQualityConfig, SamplingConfig, UserError
from gpt2lab.evaluation.corpora.tokenized import TokenizedCorpus
from gpt2lab.evaluation.sample_quality import evaluate, evaluate_sample_quality, scorer
from gpt2lab.evaluation.sample_quality.diversity import distinct_n, self_bleu, zipf_coefficient
from gpt2lab.evaluation.sample_quality.mauve import measure_mauve
from gpt2lab.evaluation.sample_quality.metrics import Continuations, measure
from gpt2lab.evaluation.sample_quality.prompts import choose_prompts
from gpt2lab.evaluation.sample_quality.repetition import ends_in_loop, longest_loop, rep_n
from gpt2lab.evaluation.sample_quality.scorer import open_scorer
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.generation import generate, generate_shared
from gpt2lab.model import GPT
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.tokenizers.bytes import BytesTokenizer
from tests.conftest import as_processes

BYTES = load_tokenizer("bytes")
SETTINGS = [DecodingConfig(temperature=0.0), DecodingConfig(), DecodingConfig(top_p=0.5)]


def texts_of(seed, n_texts=12, longest=15, vocabulary=6):
    rng = random.Random(seed)
    return [[rng.randrange(vocabulary) for _ in range(rng.randrange(1, longest))] for _ in range(n_texts)]


def test_rep_n_by_hand():
    assert rep_n([1, 2, 1, 2, 1], 1) == 1 - 2 / 5
    assert rep_n([1, 2, 1, 2, 1], 2) == 1 - 2 / 4
    assert rep_n([1, 2, 3, 1, 2, 3, 4], 3) == 1 - 4 / 5
    assert rep_n([1, 2, 3, 4], 4) == 0
    assert math.isnan(rep_n([1, 2, 3], 4))


@pytest.mark.parametrize("seed", range(5))
def test_longest_loop_is_the_longest_stretch_that_repeats_a_phrase_three_times(seed):
    ids = texts_of(seed, 1, 40, 2)[0]
    stretches = [ids[i:j] for i, j in itertools.combinations(range(len(ids) + 1), 2)]
    looping = [s for s in stretches if any(s == (s[:p] * len(s))[: len(s)] for p in range(1, len(s) // 3 + 1))]
    assert longest_loop(ids) == max(map(len, looping), default=0)


def test_planted_loops():
    before, after = list(range(100, 120)), list(range(200, 220))
    assert longest_loop([*before, *[1, 2, 3] * 4, 1, *after]) == 13
    assert longest_loop([*before, *[1, 2, 3] * 2, 1, 2, *after]) == 0
    assert longest_loop([]) == longest_loop([1]) == 0
    assert ends_in_loop([*before, *[1, 2, 3] * 3])
    assert not ends_in_loop([*before, *[1, 2, 3] * 3, 4])
    assert not ends_in_loop([*before, 5, 5, 5, 5, 5])  # a phrase has 2 tokens at least
    assert ends_in_loop([*before, 5, 5, 5, 5, 5, 5])


def test_distinct_n_by_hand():
    texts = [[1, 2, 1], [1, 2], [3]]
    assert distinct_n(texts, 1) == 3 / 6
    assert distinct_n(texts, 2) == 2 / 3
    assert math.isnan(distinct_n(texts, 4))


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_self_bleu_is_that_of_nltk(seed, n):
    texts = [*texts_of(seed), [99, 98, 97, 96]]  # one that shares no token
    smoothing = SmoothingFunction().method1
    scores = [sentence_bleu(texts[:i] + texts[i + 1 :], text, [1 / n] * n, smoothing) for i, text in enumerate(texts)]
    assert self_bleu([*texts, []], n) == pytest.approx(sum(scores) / len(scores), abs=1e-12)


def test_self_bleu_of_copies_and_strangers():
    assert self_bleu([[1, 2, 3, 4, 5]] * 3) == pytest.approx(1)
    assert self_bleu([[1, 2, 3, 4], [5, 6, 7, 8]]) == 0
    assert math.isnan(self_bleu([[1, 2], []]))


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.7])
def test_zipf_of_a_known_distribution(exponent):
    counts = np.rint(1e7 * np.arange(1, 300.0) ** -exponent).astype(int)  # too many to write out: 1 in 100 a text
    scale = max(1, counts.sum() // 2_000_000)
    ids = np.repeat(np.arange(len(counts)), counts // scale)
    assert zipf_coefficient([ids.tolist()]) == pytest.approx(exponent, rel=0.02)
    assert math.isnan(zipf_coefficient([[1, 1]]))


def test_figures_by_hand():
    continuations = Continuations(
        [[1, 2, 1, 2, 1, 2], [3]], [np.full(6, 0.5, np.float32), np.array([2.0], np.float32)], [False, True]
    )
    metrics = measure(continuations, np.array([4, 7])).to_dict()
    assert metrics["perplexity"] == pytest.approx(math.exp(5 / 7))
    assert metrics["rep_1"] == pytest.approx((4 / 6 + 0) / 2)
    assert metrics["rep_2"] == pytest.approx(3 / 5)  # of the only text that has two tokens
    assert (metrics["longest_loop"], metrics["share_ending_in_loop"], metrics["share_ended"]) == (3, 0.5, 0.5)
    half = stats.t.ppf(0.975, 1) * 1.5 / 2  # the ratio is 2 without the first document, 0.5 without the second
    assert metrics["intervals"]["perplexity"] == pytest.approx([math.exp(5 / 7 - half), math.exp(5 / 7 + half)])
    assert set(measure(continuations, np.array([4, 4])).intervals.values()) == {None}
    cut = continuations.cut([2, 0])
    assert (cut.texts, [len(nll) for nll in cut.nll], cut.ended) == ([[1, 2], []], [2, 0], [False, True])
    assert measure(cut.cut([0, 0]), np.array([0, 1])).values["perplexity"] is None


def test_mauve_is_that_of_the_package():
    rng = np.random.default_rng(0)
    human_SC, near_SC = (rng.normal(size=(60, 4)).astype(np.float32) for _ in "hn")
    far_SC = near_SC + np.array([6, 0, 0, 0], np.float32)
    found = measure_mauve(human_SC, near_SC, 2)
    expected = [mauve.compute_mauve(p_features=human_SC, q_features=near_SC, seed=seed).mauve for seed in (0, 1)]
    assert found.mauve == pytest.approx(np.mean(expected))
    assert found.mauve_sd_over_seeds == pytest.approx(np.std(expected, ddof=1))
    assert measure_mauve(human_SC, far_SC, 1).mauve < found.mauve / 2
    assert "5000" in found.note


def subject_of(model, cpu, tokenizer=BYTES, context=24):
    source = SimpleNamespace(context=context, describe=lambda: "a tiny model")
    return TextModel(model, tokenizer, source, cpu)


@pytest.fixture
def loaded(tiny_model, cpu):
    return subject_of(tiny_model(vocab_size=257, block_size=24), cpu)


def corpus(n_documents=6, length=70):
    rng = np.random.default_rng(0)
    return TokenizedCorpus([rng.integers(97, 105, length + i) for i in range(n_documents)], {"text": "letters"})


def config_of(**changes):
    return SampleQualityConfig(**{
        "decoding": SETTINGS, "num_prompts": 8, "prompt_tokens": 6, "new_tokens": 10, "batch_size": 4,
    } | changes)  # fmt: skip


def test_prompts_are_stretches_of_one_document_and_do_not_overlap():
    text, config = corpus(3, 60), config_of(num_prompts=10)
    chosen = choose_prompts(text.documents, config)
    places = set()
    for prompt, human, own in zip(*chosen, strict=True):
        stretch = [*prompt, *human]
        found = [
            (number, i)
            for number, document in enumerate(text.documents)
            for i in range(len(document))
            if document[i : i + len(stretch)].tolist() == stretch
        ]
        assert own in [number for number, _ in found]
        assert len(prompt) == 6
        assert len(human) == 10 or found[0][1] + len(stretch) == len(text.documents[found[0][0]])
        places |= {(found[0][0], i) for i in range(found[0][1], found[0][1] + len(stretch))}
    assert len(places) == sum(map(len, chosen.prompts)) + sum(map(len, chosen.human))
    assert choose_prompts(text.documents, config) == chosen
    assert choose_prompts(text.documents, config_of(num_prompts=10, seed=1)) != chosen


def test_scores_are_those_of_one_text_at_a_time(loaded):
    prompts, texts = [[97, 98], [99], [100, 101, 102]], [[103, 104, 97], [], [98]]
    judge = open_scorer(None, loaded, 2)
    for prompt, text, nll in zip(prompts, texts, judge.token_nll(prompts, texts), strict=True):
        log_p = loaded.model(torch.tensor([[*prompt, *text]]))[0].log_softmax(-1)
        expected = [-log_p[len(prompt) + i - 1, token].item() for i, token in enumerate(text)]
        np.testing.assert_allclose(nll, expected, atol=1e-5)
    for row, state in zip(map(list.__add__, prompts, texts), judge.last_states(prompts, texts), strict=True):
        np.testing.assert_allclose(state, loaded.model.hidden(torch.tensor([row]))[0, -1].detach(), atol=1e-5)


def test_section(loaded):
    result = evaluate_sample_quality(loaded, config_of(mauve_seeds=1), corpus())
    assert list(result.metrics.to_dict()["settings"]) == ["greedy", "temperature=1", "top_p=0.5"]
    lines = [json.loads(line) for line in result.files["samples.jsonl"].splitlines()]
    assert [line["setting"] for line in lines] == [
        name for name in ("human", "greedy", "temperature=1", "top_p=0.5") for _ in range(8)
    ]
    for label, pair in result.metrics.to_dict()["settings"].items():
        ours, theirs = pair["samples"], pair["human_of_equal_lengths"]
        assert ours["tokens"] == theirs["tokens"]
        assert 0 <= pair["mauve"]["mauve"] <= 1
        assert result.files["table.md"].count(label.replace("temperature=", "T=").replace("top_p=", "p="))
        drawn = [line for line in lines if line["setting"] == label and not line["ended"]]
        assert all(line["tokens"] == 10 for line in drawn)
    assert "itself" in result.protocol["scorer"]
    # the human text scores as it is, whatever is drawn
    human = [line for line in lines if line["setting"] == "human"]
    nll, tokens = sum(line["nll"] for line in human), sum(line["tokens"] for line in human)
    assert result.metrics.to_dict()["human"]["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-6)


def test_figures_depend_on_the_seed_and_not_on_the_batch(loaded):
    first, again, other_batch, other_seed = (
        evaluate_sample_quality(loaded, config_of(**changes), corpus())
        for changes in ({}, {}, {"batch_size": 3}, {"seed": 1})
    )
    assert first.metrics == again.metrics
    assert first.files == again.files
    texts_of_batch, texts = (
        [json.loads(line)["text"] for line in result.files["samples.jsonl"].splitlines()]
        for result in (other_batch, first)
    )
    assert texts_of_batch == texts
    assert other_seed.metrics.to_dict()["settings"] != first.metrics.to_dict()["settings"]


def test_processes_share_the_work_and_have_the_same_figures(loaded):
    """Groups and batches are those of one process, and no process reads or draws what another does."""
    config = config_of(mauve_seeds=1, decoding=[DecodingConfig(), DecodingConfig(top_p=0.5)])

    def of_process(world):
        own = dataclasses.replace(loaded, model=copy.deepcopy(loaded.model), world=world)
        return evaluate_sample_quality(own, config, corpus())

    with (
        mock.patch.object(evaluate, "generate_shared", side_effect=generate_shared) as drawing,
        mock.patch.object(GPT, "hidden", autospec=True, side_effect=GPT.hidden) as reading,
    ):
        alone = evaluate_sample_quality(loaded, config, corpus())
        readings = reading.call_count
        together = as_processes(3, of_process)
    assert {call.kwargs["group_size"] for call in drawing.call_args_list} == {config.batch_size}
    assert reading.call_count == 2 * readings
    assert [(one.metrics, one.files) for one in together] == [(alone.metrics, alone.files)] * 3


def test_samples_of_the_same_prompts_depend_on_the_seed(loaded):
    whole = config_of(num_prompts=29, decoding=[DecodingConfig()])  # all there are, whatever the seed
    one, two = (
        evaluate_sample_quality(loaded, dataclasses.replace(whole, seed=seed), corpus())
        .files["samples.jsonl"]
        .splitlines()
        for seed in (0, 1)
    )
    assert one[:29] == two[:29]
    assert all(first != second for first, second in zip(one[29:], two[29:], strict=True))


def test_human_text_is_cut_to_samples_that_end_early(loaded):
    config = config_of(decoding=[DecodingConfig()], num_prompts=16)
    prompts = choose_prompts(corpus().documents, config).prompts
    drawn = generate(loaded.model, prompts, SamplingConfig(max_new_tokens=10), eot_id=-1, runtime=loaded.runtime)
    ending = BytesTokenizer()
    ending.eot_id = Counter(token for text in drawn for token in text).most_common(1)[0][0]
    result = evaluate_sample_quality(dataclasses.replace(loaded, tokenizer=ending), config, corpus())
    setting = result.metrics.settings["temperature=1"]
    assert setting.samples.values["share_ended"] > 0
    assert setting.samples.tokens == setting.human_of_equal_lengths.tokens < result.metrics.human.tokens


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_prompts": 99}, "num_prompts=99: the text has room for 29 prompts of 6 tokens"),
        ({"new_tokens": 30}, r"new_tokens = 36: the scorer, the model itself, a tiny model, was trained on 24"),
    ],
)
def test_what_does_not_fit_is_one_line(loaded, changes, message):
    with pytest.raises(UserError, match=message) as error:
        evaluate_sample_quality(loaded, config_of(**changes), corpus())
    assert "\n" not in str(error.value)


def test_scorer_with_another_tokenizer(loaded, monkeypatch):
    gpt2 = SimpleNamespace(tokenizer=load_tokenizer("gpt2"))
    monkeypatch.setattr(scorer, "open_model", lambda where, device: gpt2)
    with pytest.raises(UserError, match=r"scorer=other reads tokenizer=gpt2, the samples are of tokenizer=bytes"):
        open_scorer("other", loaded, 4)


@pytest.mark.parametrize(("auto_precision", "precision"), [(True, "fp32"), (False, "bf16")])
def test_scorer_of_its_own_reads_in_float32_unless_another_precision_is_asked_for(
    loaded, monkeypatch, auto_precision, precision
):
    """The judged model is a run on a GPU, which is scored in bf16."""
    monkeypatch.setattr(scorer, "open_model", lambda where, device: loaded)
    runtime = dataclasses.replace(loaded.runtime, precision="bf16")
    judged = dataclasses.replace(loaded, runtime=runtime, auto_precision=auto_precision)
    assert open_scorer("other", judged, 4).runtime.precision == precision
    assert open_scorer(None, judged, 4).runtime.precision == "bf16"
    described = evaluate_sample_quality(judged, config_of(scorer="other"), corpus()).protocol["scorer_precision"]
    assert described.startswith(precision)


@pytest.mark.parametrize(
    "wrong", [{"decoding": []}, {"decoding": [DecodingConfig()] * 2}, {"num_prompts": 1}, {"mauve_seeds": -1}]
)
def test_settings_that_cannot_work(wrong):
    with pytest.raises(UserError, match=rf"^eval\.sample_quality\.{next(iter(wrong))}"):
        SampleQualityConfig(**wrong)
