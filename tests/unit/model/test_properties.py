"""Models of any shape and any options that hypothesis finds: causality, caching, rows, gradients, shifted positions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.model import Layout
from gpt2lab.model.mlp import MLPS
from gpt2lab.model.norms import NORMS
from gpt2lab.model.positions import POSITIONS
from tests.caches import KVCache
from tests.conftest import make_tiny_model

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
ONLY_DISTANCES = {"rope", "alibi", "none"}
"""schemes that do not know where a text begins"""


@st.composite
def models(draw):
    n_kv_head, queries_a_key, pairs = (draw(st.integers(1, 3)) for _ in range(3))
    n_head = n_kv_head * queries_a_key
    head_dim = 4 * pairs  # so that a half of it has pairs too
    positions = draw(st.sampled_from(sorted(POSITIONS)))
    return make_tiny_model(
        seed=draw(st.integers(0, 99)),
        positions=positions,
        norm=draw(st.sampled_from(sorted(NORMS))),
        mlp=draw(st.sampled_from(sorted(MLPS))),
        rope_fraction=draw(st.sampled_from([0.5, 1.0])) if positions == "rope" else 1.0,
        hidden_dim=draw(st.none() | st.integers(1, 20)),
        n_layer=draw(st.integers(1, 3)),
        n_head=n_head,
        n_kv_head=n_kv_head,
        n_embd=n_head * head_dim,
        block_size=draw(st.integers(1, 12)),
        vocab_size=draw(st.integers(2, 40)),
        vocab_multiple_of=draw(st.sampled_from([1, 3, 16])),
        bias=draw(st.booleans()),
        tie_head=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
    )


@PROPERTY
@given(model=models(), data=st.data())
def test_logits(model, data):
    B, T = data.draw(st.integers(1, 3)), data.draw(st.integers(1, model.config.block_size))
    V = model.config.vocab_size
    tokens = torch.randint(V, (B, T))
    logits = model(tokens)
    assert logits.shape == (B, T, V)
    assert logits.isfinite().all()

    t = data.draw(st.integers(0, T - 1))
    changed = tokens.clone()
    changed[:, t] = (tokens[:, t] + data.draw(st.integers(1, V - 1))) % V
    torch.testing.assert_close(model(changed)[:, :t], logits[:, :t], **CLOSE)
    assert not torch.equal(model(changed)[:, t], logits[:, t])

    row = data.draw(st.integers(0, B - 1))
    torch.testing.assert_close(model(tokens[row : row + 1])[0], logits[row], **CLOSE)
    torch.testing.assert_close(model.logits(model.hidden(tokens)[:, -1]), logits[:, -1], **CLOSE)


@PROPERTY
@given(model=models(), data=st.data())
def test_cache_in_any_chunks(model, data):
    B, T = data.draw(st.integers(1, 3)), data.draw(st.integers(1, model.config.block_size))
    cuts = sorted(data.draw(st.sets(st.integers(1, T - 1)))) if T > 1 else []
    capacity = T + data.draw(st.integers(0, 3))
    tokens = torch.randint(model.config.vocab_size, (B, T))
    cache = KVCache(model.config, B, capacity, tokens.device, torch.float32)
    parts = [model(part, cache=cache) for part in tokens.tensor_split(cuts, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), **CLOSE)
    assert cache.length == T


@pytest.mark.parametrize("shift", [1, 7, 500])
def test_shifted_positions(positions, shift):
    """Rope, alibi and no positions see distances alone; the others know where a text begins."""
    model, tokens = make_tiny_model(positions=positions, block_size=1024), torch.randint(31, (2, 12))
    pos = torch.arange(12)[None]
    difference = (model(tokens, layout=Layout(pos + shift)) - model(tokens)).abs().max()
    if positions in ONLY_DISTANCES:
        assert difference < 1e-3
    else:
        assert difference > 0.05


def test_the_order_of_tokens_matters(positions):
    """Without positions the last token of one layer sees a set; every scheme, and a second layer, sees an order."""
    for n_layer in (1, 2):
        model = make_tiny_model(positions=positions, n_layer=n_layer)
        first, second = (model(torch.tensor([order]))[:, -1] for order in ([1, 2, 3, 4], [3, 1, 2, 4]))
        blind = positions == "none" and n_layer == 1
        assert ((first - second).abs().max() < 1e-5) == blind
