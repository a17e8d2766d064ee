"""gpt2lab.model.layout: packed documents and left padding, against each text by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gpt2lab.model import Layout
from gpt2lab.model.layout import SHARED, attention_mask, causal_mask, contiguous
from gpt2lab.model.positions import POSITIONS
from tests.caches import KVCache, left_padded
from tests.conftest import OPTIONS, make_tiny_model

CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
PROPERTY = settings(deadline=None, max_examples=10, derandomize=True)


def packed(rows):
    """Layout of rows of documents, given by their lengths; all rows are equally long."""
    pos = [[t for length in lengths for t in range(length)] for lengths in rows]
    segment = [[i for i, length in enumerate(lengths) for _ in range(length)] for lengths in rows]
    return Layout(torch.tensor(pos), torch.tensor(segment))


def one_by_one(model, tokens_BT, rows):
    """Logits of each document as if it were all there is, side by side again."""
    of_rows = []
    for tokens_T, lengths in zip(tokens_BT, rows, strict=True):
        of_rows.append(torch.cat([model(document[None])[0] for document in tokens_T.split(lengths)]))
    return torch.stack(of_rows)


@st.composite
def rows_of_documents(draw):
    T = draw(st.integers(1, 12))
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        cuts = sorted(draw(st.sets(st.integers(1, T - 1)))) if T > 1 else []
        rows.append([stop - start for start, stop in zip([0, *cuts], [*cuts, T], strict=True)])
    return rows


@pytest.mark.parametrize("positions", POSITIONS)
@PROPERTY
@given(rows=rows_of_documents(), more=st.sampled_from([{}, *OPTIONS]))
def test_packed_documents_do_not_meet(positions, rows, more):
    model = make_tiny_model(positions=positions, **more)
    tokens = torch.randint(31, (len(rows), sum(rows[0])))
    torch.testing.assert_close(model(tokens, layout=packed(rows)), one_by_one(model, tokens, rows), **CLOSE)


def test_packing_means_something(positions):
    model = make_tiny_model(positions=positions)
    tokens = torch.randint(31, (1, 12))
    difference = (model(tokens, layout=packed([[5, 7]])) - model(tokens)).abs().amax(-1)[0]
    assert difference[:5].max() < 1e-5
    assert difference[5:].min() > 1e-3


@pytest.mark.parametrize("chunks", [[12], [3, 9], [1] * 12, [6, 1, 5]], ids=str)
def test_packed_documents_through_the_cache(positions, chunks):
    model, rows = make_tiny_model(positions=positions), [[5, 1, 6], [12]]
    tokens, layout = torch.randint(31, (2, 12)), packed(rows)
    cache = KVCache(model.config, 2, 12, CPU, torch.float32)
    parts = zip(*(tensor.split(chunks, dim=1) for tensor in (tokens, *layout)), strict=True)
    logits = [model(part, layout=Layout(pos, segment), cache=cache) for part, pos, segment in parts]
    torch.testing.assert_close(torch.cat(logits, dim=1), one_by_one(model, tokens, rows), **CLOSE)


def test_gradients_of_packed_documents_add_up(positions):
    tokens, targets, lengths = *torch.randint(31, (2, 1, 12)), [4, 3, 5]
    together, apart = (make_tiny_model(positions=positions) for _ in range(2))
    F.cross_entropy(together(tokens, layout=packed([lengths]))[0], targets[0], reduction="sum").backward()
    for document, target in zip(tokens.split(lengths, 1), targets.split(lengths, 1), strict=True):
        F.cross_entropy(apart(document)[0], target[0], reduction="sum").backward()
    for (name, ours), theirs in zip(together.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("positions", POSITIONS)
@PROPERTY
@given(data=st.data(), more=st.sampled_from([{}, *OPTIONS]))
def test_left_padding_changes_nothing(positions, data, more):
    model = make_tiny_model(positions=positions, **more)
    T = data.draw(st.integers(1, 12))
    n_padding = torch.tensor(data.draw(st.lists(st.integers(0, T - 1), min_size=1, max_size=3)))
    tokens, others = torch.randint(31, (2, len(n_padding), T))
    layout = left_padded(n_padding, 0, T)
    logits = model(tokens, layout=layout)
    assert logits.isfinite().all()  # those of the padding too
    for row, n in enumerate(n_padding.tolist()):
        torch.testing.assert_close(logits[row, n:], model(tokens[row : row + 1, n:])[0], **CLOSE)

    is_text = layout.segment_BT == 1
    with_other_padding = model(tokens.where(is_text, others), layout=layout)
    assert torch.equal(with_other_padding[is_text], logits[is_text])

    chunks = data.draw(st.lists(st.integers(1, 4), max_size=T).filter(lambda sizes: sum(sizes) < T))
    cache, start, parts = KVCache(model.config, len(n_padding), T, CPU, torch.float32), 0, []
    for size in [*chunks, T - sum(chunks)]:
        layout = left_padded(n_padding, start, start + size)
        parts.append(model(tokens[:, start : start + size], layout=layout, cache=cache))
        start += size
    torch.testing.assert_close(torch.cat(parts, dim=1), logits, **CLOSE)


def test_left_padded_by_hand():
    layout = left_padded(torch.tensor([0, 2, 3]), 1, 4)
    assert layout.pos_BT.tolist() == [[1, 2, 3], [0, 0, 1], [0, 0, 0]]
    assert layout.segment_BT.tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    assert contiguous(3, 2, CPU).pos_BT.tolist() == [[3, 4]]


@PROPERTY
@given(data=st.data(), with_bias=st.booleans(), with_segments=st.booleans())
def test_mask_against_its_definition(data, with_bias, with_segments):
    B, H, past, T = (data.draw(st.integers(low, 4)) for low in (1, 1, 0, 1))
    S = past + T
    segment_BS = torch.tensor(
        data.draw(st.lists(st.lists(st.integers(SHARED, 2), min_size=S, max_size=S), min_size=B, max_size=B))
    )
    pos_BS = torch.arange(S).expand(B, S)
    bias_BHTS = torch.randn(B, H, T, S) if with_bias else None
    seen = Layout(pos_BS, segment_BS if with_segments else None)
    new = Layout(pos_BS[:, past:], segment_BS[:, past:] if with_segments else None)
    mask = attention_mask(new, seen, bias_BHTS)
    if mask is None:
        assert not with_segments
        assert not with_bias
        assert T == 1 or past == 0
        return
    assert mask.dtype == (torch.float32 if with_bias else torch.bool)
    mask_BHTS = mask.expand(B, H, T, S)
    for b, h, t, s in torch.cartesian_prod(*(torch.arange(n) for n in (B, H, T, S))).view(-1, 4).tolist():
        allowed = s <= past + t and (not with_segments or segment_BS[b, s] in (SHARED, segment_BS[b, past + t]))
        if bias_BHTS is None:
            assert mask_BHTS[b, h, t, s] == allowed
        else:
            assert mask_BHTS[b, h, t, s] == (bias_BHTS[b, h, t, s] if allowed else -torch.inf)


def test_causal_mask_by_hand():
    assert causal_mask(2, 1, CPU).long().tolist() == [[1, 1, 0], [1, 1, 1]]
