"""Each protocol beside itself written out naively on transformers' own GPT-2, with float64 sums."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from gpt2lab.config import UserError
from gpt2lab.evaluation.corpora.detokenize import detokenize_ptb
from gpt2lab.evaluation.corpora.formats import Corpus, Document
from gpt2lab.evaluation.perplexity.evaluate import score_plan, summarize_scores
from gpt2lab.evaluation.perplexity.protocols import PROTOCOLS, choose_protocol
from gpt2lab.runtime import Runtime
from gpt2lab.tokenizers import load_tokenizer, read_tokenizer
from gpt2lab.weights import load_pretrained
from tests.hugging_face import gpt2
from tests.tokenizer_files import MAKERS

T = 12
LENGTHS = [T - 1, T, T + 1, 2 * T + 3]
STRIDES = [1, T // 2, T]
BYTES = load_tokenizer("bytes")
EOT = BYTES.eot_id


def unchanged(text):
    return text


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    return gpt2(vocab_size=257, n_positions=T)


@pytest.fixture(scope="module")
def model(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    reference.save_pretrained(folder)
    return load_pretrained(folder)


def text_of(n, seed=0):
    letters = np.random.default_rng(seed).choice(list("ab ,.\n"), n)
    return "".join(letters).replace(" ", "é", 1)[:n]


def corpus_of(*documents):
    return Corpus([Document.of(text, [text]) for text in documents], "\n", {})


def nll_of(reference, ids, labels):
    """Float64 sum and number of the labels that are not -100, shifted as in transformers."""
    with torch.no_grad():
        log_p = reference(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    scored = [(i, label) for i, label in enumerate(labels[1:]) if label != -100]
    return -sum(log_p[i, label].item() for i, label in scored), len(scored)


def score(model, plan, cpu, batch_size=3):
    return summarize_scores(score_plan(model, plan, cpu, batch_size))


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("n", LENGTHS)
def test_huggingface(reference, model, cpu, n, stride):
    documents = [text_of(n // 3), text_of(n - n // 3 - 2 - 1, seed=1)]  # é is two bytes
    ids = BYTES.encode("\n\n".join(documents))
    nll, count, previous_end = 0.0, 0, 0
    for begin in range(0, len(ids), stride):  # the page's loop
        end = min(begin + T, len(ids))
        target_length = end - previous_end
        labels = [-100] * (end - begin - target_length) + ids[begin:end][-target_length:]
        part, scored = nll_of(reference, ids[begin:end], labels)
        nll, count, previous_end = nll + part, count + scored, end
        if end == len(ids):
            break
    plan = PROTOCOLS["huggingface"]().plan(corpus_of(*documents), BYTES, T, stride, detokenize_ptb)
    for batch_size in (1, 3, 100):
        result, _ = score(model, plan, cpu, batch_size)
        assert result.token_perplexity == pytest.approx(math.exp(nll / count), rel=1e-5)
        assert result.tokens == result.bytes == count
        assert result.word_perplexity is None
    if stride < T:
        assert count == len(ids) - 1


def test_huggingface_reads_the_begin_token_that_transformers_puts_first(tmp_path):
    MAKERS["llama"](tmp_path)
    library = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = read_tokenizer(str(tmp_path / "tokenizer.json"))
    texts = ["the fox", "a naïve café"]
    plan = PROTOCOLS["huggingface"]().plan(corpus_of(*texts), tokenizer, 200, 200, unchanged)
    ids = AutoTokenizer.from_pretrained(tmp_path)("\n\n".join(texts))["input_ids"]
    assert plan.tokens_n.tolist() == ids
    assert ids[0] == 1
    assert plan.bytes_D.tolist() == [len((texts[0] + "\n\n").encode()), len(texts[1].encode())]
    assert plan.protocol["prefix"] == "begin token"


@pytest.mark.parametrize(("text", "context"), [("a", T), ("ab", 1)])
def test_huggingface_without_a_token_to_score(text, context):
    with pytest.raises(UserError, match=rf"the text has {len(text)}, the context {context}; expected two or more"):
        PROTOCOLS["huggingface"]().plan(corpus_of(text), BYTES, context, None, unchanged)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", ["stream", "gpt2_paper"])
def test_after_an_end_of_text(reference, model, cpu, name, n, stride):
    documents = [text_of(n // 2) + " 's", text_of(n - n // 2, seed=1)]
    if name == "stream":
        ids = [EOT, *BYTES.encode(documents[0]), EOT, *BYTES.encode(documents[1])]
        units = len("".join(documents).encode())
    else:
        ids = [EOT, *BYTES.encode(documents[0].replace(" 's", "'s") + "\n" + documents[1])]
        units = len("\n".join(documents).encode())
    nll, first = 0.0, 1
    while first < len(ids):  # the first window holds T targets, each later one `stride` more and T inputs
        end = min(first + (T if first == 1 else stride), len(ids))
        begin = max(0, end - 1 - T)
        with torch.no_grad():
            log_p = reference(torch.tensor([ids[begin : end - 1]])).logits[0].double().log_softmax(-1)
        nll -= sum(log_p[i - 1 - begin, ids[i]].item() for i in range(first, end))
        first = end

    def only_ptb_s(text):
        return text.replace(" 's", "'s")

    plan = PROTOCOLS[name]().plan(corpus_of(*documents), BYTES, T, stride, only_ptb_s)
    words = len(documents[0].split()) + len(documents[1].split())
    if name == "gpt2_paper":
        words += sum(max(1, len(document.splitlines())) for document in documents)
    for batch_size in (1, 3, 100):
        result, _ = score(model, plan, cpu, batch_size)
        assert result.nll == pytest.approx(nll, rel=1e-5)
        assert (result.tokens, result.words, result.bytes) == (len(ids) - 1, words, units)
        assert result.word_perplexity == pytest.approx(math.exp(nll / words), rel=1e-4)


@pytest.mark.parametrize("stride", STRIDES)
def test_stream_of_a_model_with_document_masking_scores_each_document_by_itself(reference, model, cpu, stride):
    """The tokens of the usual stream, each predicted from its own document, also the end-of-text that ends one."""
    texts = [text_of(n, seed=n) for n in (1, T - 2, T, 3 * T + 2)]
    corpus, nll = corpus_of(*texts), 0.0
    for number, text in enumerate(texts, 1):
        ids, first = [EOT, *BYTES.encode(text), EOT][: None if number < len(texts) else -1], 1
        while first < len(ids):
            end = min(first + (T if first == 1 else stride), len(ids))
            begin = max(0, end - 1 - T)
            nll += nll_of(reference, ids[begin : end - 1], [-100] * (first - begin) + ids[first:end])[0]
            first = end
    plan, usual = (
        choose_protocol("stream", SimpleNamespace(document_masking=masking)).plan(corpus, BYTES, T, stride, unchanged)
        for masking in (True, False)
    )
    scores, others = (score_plan(model, either, cpu, 3) for either in (plan, usual))
    assert summarize_scores(scores)[0].nll == pytest.approx(nll, rel=1e-5)
    assert summarize_scores(others)[0].nll != pytest.approx(nll, rel=1e-3)
    assert [scores.tokens_D.tolist(), scores.bytes_D.tolist()] == [others.tokens_D.tolist(), others.bytes_D.tolist()]
    assert [plan.reads_across_documents(), usual.reads_across_documents()] == [False, True]
    assert plan.protocol == usual.protocol | {"attention": "within documents"}


def test_line_ends_are_words_as_the_literature_counts():
    """Rows as the Hub has them: Penn Treebank's without line ends, WikiText's with them and "" for a blank line."""
    ptb = Corpus([Document.of("a b\nc\nd e", ["a b", "c", "d e"])], "\n", {})
    wikitext = Corpus([Document.of(" \n = A = \n \n b c \n", ["", " = A = \n", "", " b c \n"])], "\n", {})
    for corpus, words, line_ends in ((ptb, 5, 3), (wikitext, 5, 4)):
        for name, expected in (("gpt2_paper", words + line_ends), ("gpt2_paper_without_line_ends", words)):
            plan = PROTOCOLS[name]().plan(corpus, BYTES, T, None, unchanged)
            assert plan.words_D.sum() == expected


def test_lm_eval(reference, model, cpu):
    documents = [text_of(n, seed=n) for n in (1, T - 1, T, T + 1, 3 * T + 2)]
    nll = 0.0
    for document in documents:
        for context, continuation in map(
            make_disjoint_window, get_rolling_token_windows(BYTES.encode(document), EOT, T, 1)
        ):
            with torch.no_grad():
                log_p = reference(torch.tensor([(context + continuation)[:-1]])).logits[0].double().log_softmax(-1)
            nll -= sum(log_p[len(context) - 1 + i, token].item() for i, token in enumerate(continuation))
    plan = PROTOCOLS["lm_eval"]().plan(corpus_of(*documents), BYTES, T, None, unchanged)
    result, _ = score(model, plan, cpu)
    assert result.nll == pytest.approx(nll, rel=1e-5)
    assert result.words == sum(len(re.split(r"\s+", document)) for document in documents)
    with pytest.raises(UserError, match="eval.stride=3: protocol lm_eval"):
        PROTOCOLS["lm_eval"]().plan(corpus_of("ab"), BYTES, T, 3, unchanged)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_documents_have_their_own_tokens(model, cpu, name):
    texts = [text_of(n, seed=n) for n in (40, 3, 25)]
    plan = PROTOCOLS[name]().plan(corpus_of(*texts), BYTES, T, None, unchanged)
    for number, text in enumerate(texts):
        begin, end = [*plan.starts_D.tolist(), len(plan.tokens_n)][number : number + 2]
        own = BYTES.decode([i for i in plan.tokens_n[begin:end].tolist() if i != EOT])
        assert own.rstrip("\n") == text.rstrip("\n")
    _, intervals = score(model, plan, cpu)
    assert "token_perplexity" in intervals
    single, none = score(model, PROTOCOLS[name]().plan(corpus_of(texts[0]), BYTES, T, None, unchanged), cpu)
    assert none == {}
    assert single.tokens > 0


def test_bf16_is_near(model, cpu):
    plan = PROTOCOLS["stream"]().plan(corpus_of(text_of(400)), BYTES, T, 4, unchanged)
    fp32, _ = score(model, plan, cpu)
    bf16, _ = score(model, plan, Runtime(torch.device("cpu"), "bf16"))
    assert bf16.nll != fp32.nll
    assert bf16.token_perplexity == pytest.approx(fp32.token_perplexity, rel=0.005)


def test_tokens_of_another_vocabulary(model, cpu):
    plan = PROTOCOLS["stream"]().plan(corpus_of("some words"), load_tokenizer("gpt2"), T, None, unchanged)
    with pytest.raises(UserError, match="ids below 257: it was made with another tokenizer"):
        score(model, plan, cpu)


@pytest.mark.parametrize("kind", MAKERS)
def test_bytes_and_prefix_are_right_for_every_kind_of_tokenizer(kind, tmp_path):
    """Bytes per document are those of the text, also where the tokenizer adds a space or normalizes."""
    tokenizer = read_tokenizer(str(MAKERS[kind](tmp_path)))
    documents = ["the fox  and e\u0301", "dog, ﬁ 日本", "naïve café"]
    for name in ("stream", "lm_eval", "gpt2_paper"):
        plan = PROTOCOLS[name]().plan(corpus_of(*documents), tokenizer, T, None, unchanged)
        separator = 1 if name == "gpt2_paper" else 0
        expected = [len(text.encode()) + separator for text in documents]
        expected[-1] -= separator
        assert plan.bytes_D.tolist() == expected
        assert plan.tokens_n[0] == tokenizer.bos_id
    plan = PROTOCOLS["huggingface"]().plan(corpus_of(*documents), tokenizer, 200, 200, unchanged)
    first = tokenizer.encode_with_lengths("\n\n".join(documents))[1][0]
    assert plan.bytes_D.sum() == len("\n\n".join(documents).encode()) - first
