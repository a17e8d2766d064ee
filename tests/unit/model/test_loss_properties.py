"""The grouped loss and the filters against plain definitions, for any shape, mask and padding that hypothesis finds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gpt2lab.config import RuntimeConfig
from gpt2lab.evaluation.scoring import score_tokens
from gpt2lab.evaluation.windows import sliding_windows
from gpt2lab.model import GPT, IGNORE_INDEX, loss
from gpt2lab.model.loss import objective_sum, target_nll
from gpt2lab.runtime import open_runtime
from tests.conftest import OPTIONS, make_tiny_model

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True)
RELATIVE = {torch.float32: 1e-6, torch.bfloat16: 2e-2}
CPU = open_runtime(RuntimeConfig(device="cpu", precision="fp32"))


@st.composite
def problems(draw):
    """Hidden states, a head with rows of padding, targets of which some are ignored, and the size of a group."""
    N, C, V, padding = (draw(st.integers(low, high)) for low, high in ((1, 40), (1, 12), (1, 50), (0, 9)))
    torch.manual_seed(draw(st.integers(0, 999)))
    scale = draw(st.sampled_from([0.1, 1.0, 10.0]))
    hidden, head = torch.randn(N, C) * scale, torch.randn(V + padding, C)
    ignored = draw(st.lists(st.booleans(), min_size=N, max_size=N))
    targets = torch.randint(V, (N,)).masked_fill(torch.tensor(ignored), IGNORE_INDEX)
    return hidden, head, targets, V, draw(st.integers(1, 3 * N * (V + padding)))


@pytest.mark.parametrize("dtype", RELATIVE)
@PROPERTY
@given(problem=problems())
def test_grouped_loss_is_the_plain_one(dtype, problem):
    *inputs, targets, V, group_logits = problem
    hidden, head = (tensor.to(dtype).requires_grad_() for tensor in inputs)
    exact_hidden, exact_head = (tensor.detach().double().requires_grad_() for tensor in (hidden, head))
    exact_terms = F.cross_entropy(exact_hidden @ exact_head[:V].t(), targets, ignore_index=-100, reduction="none")
    exact_gradients = torch.autograd.grad(exact_terms.sum(), (exact_hidden, exact_head))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loss.GROUP_LOGITS, "cpu", group_logits)
        total, _ = objective_sum(hidden, head, targets, V)
        terms = target_nll(hidden, head, targets, V)
    gradients = torch.autograd.grad(total, (hidden, head))

    # a logit of size s is rounded by s times the format's last digit, and so is every term
    largest_logit = (exact_hidden @ exact_head.t()).abs().max().item()
    tolerance = RELATIVE[dtype] * max(1.0, largest_logit)
    assert total.dtype == terms.dtype == torch.float32
    torch.testing.assert_close(terms.double(), exact_terms.detach(), rtol=0, atol=tolerance)
    assert abs(total.item() - exact_terms.sum().item()) <= tolerance * len(targets)
    for ours, exact in zip(gradients, exact_gradients, strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - exact).norm() <= 2 * tolerance * max(exact.norm().item(), inputs[0].norm().item())
    assert (gradients[0][targets == IGNORE_INDEX] == 0).all()
    assert (gradients[1][V:] == 0).all()


def padded(model, vocab_multiple_of):
    """The same model with rows of padding, and in them numbers that would take all probability."""
    config = type(model.config)(**vars(model.config) | {"vocab_multiple_of": vocab_multiple_of})
    more = GPT(config).eval()
    state = model.state_dict()
    for name in ("wte.weight", "lm_head.weight"):
        if name in state:
            rows = config.padded_vocab_size - config.vocab_size
            state[name] = torch.cat([state[name], 1000 * torch.randn(rows, config.n_embd)])
    more.load_state_dict(state)
    return more


@pytest.mark.parametrize("unpadded", [{}, *OPTIONS[:3]], ids=str)
def test_padding_a_model_changes_no_score(unpadded):
    model = make_tiny_model(**unpadded)
    more = padded(model, 64)
    assert more.head_PC.shape == (64, 16)
    tokens, targets = torch.randint(31, (2, 3, 12))
    targets[1, 4:] = IGNORE_INDEX
    torch.testing.assert_close(more(tokens), model(tokens))
    torch.testing.assert_close(more.token_nll(tokens, targets), model.token_nll(tokens, targets))

    corpus = torch.randint(31, (100,)).numpy()
    windows = list(sliding_windows(len(corpus), model.config.block_size, model.config.block_size))
    before, after = (score_tokens(m, corpus, windows, CPU, batch_size=8).sum(dtype=float) for m in (model, more))
    assert after == pytest.approx(before, rel=1e-6)

    for m in (model, more):
        m.loss(tokens, targets).backward()
    for (name, p), q in zip(model.named_parameters(), more.parameters(), strict=True):
        torch.testing.assert_close(q.grad[: len(p)], p.grad, rtol=1e-5, atol=1e-6, msg=name)
        assert (q.grad[len(p) :] == 0).all()
