"""Perplexity against a naive loop; what the figures are divided by."""

import math

import numpy as np
import pytest
import torch

from gpt2lab.config import DataConfig, ModelConfig, PrepareConfig, RuntimeConfig, UserError
from gpt2lab.data import prepare
from gpt2lab.evaluation import Perplexity, perplexity
from gpt2lab.evaluation.perplexity import sliding_windows
from gpt2lab.evaluation.texts import text_from_file, text_from_validation_split
from gpt2lab.model import GPT
from gpt2lab.runtime import open_runtime
from gpt2lab.tokenizer import load_tokenizer

CPU = open_runtime(RuntimeConfig(device="cpu", precision="fp32"))
T = 8
LENGTHS = np.random.default_rng(0).integers(0, 5, 50)


@pytest.fixture
def model():
    torch.manual_seed(1)
    built = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=T, vocab_size=50, dropout=0.3))
    with torch.no_grad():
        built.wte.weight.mul_(20)
    return built


@pytest.mark.parametrize("stride", [1, 3, T // 2, T])
@pytest.mark.parametrize("n", [2, T - 1, T, T + 1, T + 2, 2 * T + 3, 5 * T])
def test_against_a_loop_over_single_tokens(model, n, stride):
    tokens = np.random.default_rng(n).integers(0, 50, n)
    model.eval()
    nll = 0.0
    for target in range(1, n):
        # the first window scores T targets; each later one ends `stride` further and reaches back as far as it can
        windows_before = max(0, -(-(target - T) // stride))
        end = min(T + windows_before * stride, n - 1)
        context = tokens[max(0, end - T) : target]
        with torch.no_grad():
            logits = model(torch.from_numpy(context)[None])[0, -1].double()
        nll -= logits.log_softmax(0)[tokens[target]].item()
    model.train()
    for batch_size in (1, 3, 100):
        result = perplexity(
            model, tokens, token_lengths=LENGTHS, runtime=CPU, stride=stride, batch_size=batch_size, words=7
        )
        assert result.nll == pytest.approx(nll, rel=1e-5)
        assert (result.tokens, result.bytes, result.words) == (n - 1, LENGTHS[tokens[1:]].sum(), 7)
    assert model.training


@pytest.mark.parametrize("stride", [1, 3, T])
@pytest.mark.parametrize("n", [2, T, T + 1, 3 * T + 2])
def test_each_token_is_scored_once(n, stride):
    windows = list(sliding_windows(n, T, stride))
    assert [i for w in windows for i in range(w.first_scored, w.end)] == list(range(1, n))
    assert all(w.end - 1 - w.begin <= T for w in windows)
    assert all(w.end - 1 - w.begin == T for w in windows[1:])


def test_figures_by_hand():
    result = Perplexity(nll=6 * math.log(2), tokens=3, bytes=12, words=2)
    assert result.loss == pytest.approx(2 * math.log(2))
    assert result.token_perplexity == pytest.approx(4)
    assert result.word_perplexity == pytest.approx(8)
    assert result.byte_perplexity == pytest.approx(math.sqrt(2))
    assert result.bits_per_byte == pytest.approx(0.5)
    assert Perplexity(nll=1e6, tokens=1, bytes=1).token_perplexity == math.inf
    assert Perplexity(nll=1.0, tokens=1, bytes=1).word_perplexity is None


def test_what_cannot_be_scored(model):
    with pytest.raises(UserError, match="1 token"):
        perplexity(model, np.array([3]), token_lengths=LENGTHS, runtime=CPU)
    for stride in (-1, 0, T + 1):
        with pytest.raises(UserError, match=f"eval.stride={stride}"):
            perplexity(model, np.arange(20), token_lengths=LENGTHS, runtime=CPU, stride=stride)


@pytest.mark.parametrize("tokenizer", ["gpt2", "bytes"])
def test_text_of_a_file(tmp_path, tokenizer):
    tokenizer = load_tokenizer(tokenizer)
    text = "naïve — 東京 two\r\nlines\n\n🙂 end"
    (tmp_path / "t.txt").write_bytes(text.encode())
    result = text_from_file(tmp_path / "t.txt", tokenizer)
    assert result.tokens[0] == tokenizer.eot_id
    assert tokenizer.decode(result.tokens[1:].tolist()) == text
    assert tokenizer.token_lengths()[result.tokens[1:]].sum() == len(text.encode())
    assert result.words == 7


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "t.txt").write_bytes("\ufeffab".encode())
    assert text_from_file(tmp_path / "t.txt", load_tokenizer("bytes")).tokens.tolist() == [256, *b"ab"]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b" \n", "empty"), (b"ab\xff", "byte 2 is not")]
)
def test_a_file_that_is_no_text(tmp_path, content, message):
    if content is not None:
        (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        text_from_file(tmp_path / "t.txt", load_tokenizer("bytes"))


@pytest.mark.parametrize("name", ["gpt2", "bytes"])
def test_text_of_a_validation_split(tmp_path, name):
    documents = ["\n".join([f"document {i} has é words"] * (i % 3 + 1)) for i in range(300)]  # end within a word
    (tmp_path / "t.txt").write_text("\x00".join(documents))
    data = DataConfig(source="text_files", root=str(tmp_path), files=[str(tmp_path / "t.txt")], delimiter="\x00")
    tokenizer = load_tokenizer(name)
    manifest = prepare(data, PrepareConfig(), tokenizer)
    result = text_from_validation_split(data, tokenizer, manifest.fingerprint)
    held_out = tokenizer.decode(result.tokens.tolist()).split("<|endoftext|>")[1:]
    assert 0 < len(held_out) == manifest.splits["val"].documents
    assert set(held_out) <= set(documents)
    assert result.words == sum(len(document.split()) for document in held_out)
    assert tokenizer.token_lengths()[result.tokens].sum() == manifest.splits["val"].bytes
