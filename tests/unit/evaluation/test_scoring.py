"""Scores of tokens against a naive loop; what the perplexities are divided by."""

import math

import numpy as np
import pytest
import torch

from gpt2lab.config import ModelConfig, RuntimeConfig, UserError
from gpt2lab.evaluation.scoring import (
    Perplexity,
    check_stride,
    score_documents,
    score_greedy,
    score_tokens,
)
from gpt2lab.evaluation.scoring_batches import window_batches
from gpt2lab.evaluation.windows import sliding_windows
from gpt2lab.model import GPT
from gpt2lab.runtime import open_runtime

CPU = open_runtime(RuntimeConfig(device="cpu", precision="fp32"))
T = 8


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
        nll_n = score_tokens(model, tokens, list(sliding_windows(n, T, stride)), CPU, batch_size)
        assert math.fsum(nll_n) == pytest.approx(nll, rel=1e-5)
        assert (len(nll_n), nll_n[0]) == (n, 0)
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
    assert math.isnan(Perplexity(nll=math.nan, tokens=1, bytes=1).token_perplexity)
    assert Perplexity(nll=1.0, tokens=1, bytes=1).word_perplexity is None


@pytest.mark.parametrize("stride", [-1, 0, T + 1])
def test_stride_that_would_leave_tokens_unscored(stride):
    with pytest.raises(UserError, match=f"eval.stride={stride}"):
        check_stride(stride, T)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_an_error(model, value):
    """The likeliest of NaN scores would be the first, which is right for a quarter of the questions."""
    tokens, windows = np.arange(20), list(sliding_windows(20, T, T))
    with torch.no_grad():
        model.norm_f.weight[3] = value
    message = "^the model's logits are NaN or infinite: the checkpoint is damaged or its training diverged$"
    with pytest.raises(UserError, match=message):
        score_tokens(model, tokens, windows, CPU, 2)
    with pytest.raises(UserError, match=message):
        score_documents(model, tokens, windows, np.array([0, 9]), CPU, 2)
    with pytest.raises(UserError, match=message):
        score_greedy(model, window_batches(tokens, windows, 2), 20, CPU)
