"""Attention worked out by hand for heads of width 3, and by plain loops for all eight tokens.

Each row of Q, K and V is a component, each column one of the eight tokens.
"""

import math

import pytest
import torch

from gpt2lab.config import ModelConfig
from gpt2lab.model.attention import Attention, AttentionContext, CausalAttention, attention_weights
from gpt2lab.model.layout import causal_mask

Q = [
    [0.12, -0.21, 0.35, -0.15, 0.05, 0.62, -0.28, 0.03],
    [-0.30, 0.25, 0.14, 0.48, -0.22, -0.05, 0.07, -0.12],
    [0.65, -0.12, -0.18, 0.08, 0.33, 0.15, 0.52, 0.06],
]
K = [
    [0.18, -0.09, 0.41, -0.26, 0.11, 0.68, -0.33, 0.00],
    [-0.36, 0.31, 0.08, 0.55, -0.25, -0.09, 0.10, -0.09],
    [0.71, -0.21, -0.21, 0.12, 0.39, 0.08, 0.56, 0.08],
]
V = [
    [0.15, -0.18, 0.38, -0.20, 0.08, 0.64, -0.31, 0.02],
    [-0.33, 0.28, 0.11, 0.52, -0.24, -0.06, 0.09, -0.11],
    [0.68, -0.16, -0.20, 0.10, 0.36, 0.12, 0.55, 0.07],
]
ATTEND = CausalAttention(dropout=0.0)
FOUR_DIGITS = {"rtol": 0, "atol": 5e-5}


def tokens_by_width(matrix):
    return [list(column) for column in zip(*matrix, strict=True)]


def as_one_head(matrix):
    return torch.tensor(tokens_by_width(matrix))[None, None]


def looped_attention(q, k, v):
    """softmax(q . k / sqrt(3)) v of each token over itself and those before it, one number at a time."""
    outputs = []
    for t in range(len(q)):
        scores = [sum(q[t][d] * k[s][d] for d in range(3)) / math.sqrt(3) for s in range(t + 1)]
        total = sum(math.exp(score) for score in scores)
        outputs.append([sum(math.exp(scores[s]) / total * v[s][d] for s in range(t + 1)) for d in range(3)])
    return torch.tensor(outputs)


def test_first_score():
    # the other key is zero, so its score is 0, and the two weights are in the ratio e^score : 1
    keys = torch.stack([as_one_head(K)[0, 0, 0], torch.zeros(3)])[None, None]
    weights = ATTEND(as_one_head(Q)[:, :, :1], keys, torch.eye(2)[None, None], None)[0, 0, 0]
    torch.testing.assert_close((weights[0] / weights[1]).log(), torch.tensor(0.3413), **FOUR_DIGITS)


def test_second_token():
    weights = attention_weights(as_one_head(Q), as_one_head(K), None)[0, 0]
    torch.testing.assert_close(weights[1], torch.tensor([0.4519, 0.5481, 0, 0, 0, 0, 0, 0]), **FOUR_DIGITS)
    output = ATTEND(as_one_head(Q), as_one_head(K), as_one_head(V), None)[0, 0, 1]
    torch.testing.assert_close(output, torch.tensor([-0.0309, 0.0044, 0.2196]), **FOUR_DIGITS)


@pytest.mark.parametrize("past", range(8))
def test_all_tokens_whole_or_after_cached_ones(past):
    q, k, v = (as_one_head(matrix) for matrix in (Q, K, V))
    mask = causal_mask(8 - past, past, q.device) if past else None
    expected = looped_attention(*(tokens_by_width(matrix) for matrix in (Q, K, V)))
    torch.testing.assert_close(ATTEND(q[:, :, past:], k, v, mask)[0, 0], expected[past:])


def test_several_new_tokens_after_cached_ones_need_a_mask():
    q, k, v = (as_one_head(matrix) for matrix in (Q, K, V))
    with pytest.raises(AssertionError, match="mask"):
        ATTEND(q[:, :, 5:], k, v, None)


def test_module_of_three_heads():
    """Inputs are one-hot, so column t of the projection matrix is token t's q, k and v."""
    heads = [(Q, K, V), (K, V, Q), (V, Q, K)]
    attention = Attention(ModelConfig(n_head=3, n_embd=9))
    parts = [torch.tensor(head[part]) for part in range(3) for head in heads]  # q of the heads, then k, then v
    with torch.no_grad():
        attention.c_attn.weight[:, :8] = torch.cat(parts)
        attention.c_attn.bias.zero_()
        attention.c_proj.weight.copy_(torch.eye(9))
        attention.c_proj.bias.zero_()
    out = attention(torch.eye(9)[None, :8], AttentionContext(lambda q, k: (q, k), None), None)[0]
    expected = [looped_attention(*(tokens_by_width(matrix) for matrix in head)) for head in heads]
    torch.testing.assert_close(out, torch.cat(expected, dim=1))
