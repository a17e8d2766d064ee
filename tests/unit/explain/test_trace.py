"""The trace against the model itself, scaled_dot_product_attention and sums; numerics/ compares with transformers."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gpt2lab.config import UserError
from gpt2lab.explain import contributions, logit_lens, trace
from gpt2lab.model.attention import attention_weights
from gpt2lab.model.norms import NORMS
from gpt2lab.model.positions import POSITIONS
from gpt2lab.weights.loading import require_same_model

IDS = [3, 1, 4, 1, 5, 9, 2]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def close(actual, expected):
    torch.testing.assert_close(actual, expected, **CLOSE)


def check_trace(model, ids=IDS):
    found = trace(model, ids)
    tokens_BT = torch.tensor([ids])
    with torch.no_grad():
        close(found.logits_TV, model(tokens_BT)[0])
        close(found.final_TC, model.hidden(tokens_BT)[0])
        close(found.token_TC, model.wte.weight[ids])
        close(found.embedding_TC, model.positions.embed(model.wte(tokens_BT), torch.arange(len(ids))[None])[0])
    for i, block in enumerate(found.blocks):
        module = model.blocks[i]
        weights_HTT = sdpa_weights(block)
        close(block.weights_HTT, weights_HTT)
        close((block.scores_HTT + block.mask_HTT).softmax(dim=-1), weights_HTT)
        v_HTD = block.v_KTD.repeat_interleave(len(block.q_HTD) // len(block.v_KTD), dim=0)
        close(block.weights_HTT @ v_HTD, block.heads_HTD)
        with torch.no_grad():
            close(module.norm_1(block.input_TC), block.norm_1_TC)
            close(module.attn.c_proj(block.heads_HTD.transpose(0, 1).flatten(1)), block.attention_TC)
            close(module.norm_2(block.middle_TC), block.norm_2_TC)
            close(module.mlp(block.norm_2_TC), block.mlp_TC)
            close(module.mlp.c_proj(block.units_TM), block.mlp_TC)
        close(block.input_TC + block.attention_TC, block.middle_TC)
        close(block.middle_TC + block.mlp_TC, block.output_TC)
        following = found.blocks[i + 1].input_TC if i + 1 < len(found.blocks) else block.output_TC
        close(block.output_TC, following)
    return found


def sdpa_weights(block):
    """The weights of PyTorch's kernel: with the unit vectors as values, its output is the weights."""
    T = block.q_HTD.shape[1]
    k_HTD = block.k_KTD.repeat_interleave(len(block.q_HTD) // len(block.k_KTD), dim=0)
    v_HTT = torch.eye(T).expand(len(block.q_HTD), T, T)
    return F.scaled_dot_product_attention(block.q_HTD, k_HTD, v_HTT, attn_mask=block.mask_HTT)


def check_sum(model, found):
    for position in range(len(found.ids_T)):
        split = contributions(model, found, position)
        expected = found.logits_TV[position].double()
        torch.testing.assert_close(split.logits_NV.sum(dim=0), expected, rtol=0, atol=1e-4)
        assert len(split.parts) == len(split.logits_NV)


def test_trace_is_the_pass_and_parts_add_up_to_the_logits_in_every_variant(variant, tiny_model):
    model = tiny_model(**variant)
    check_sum(model, check_trace(model))


def test_trace_and_parts_with_options(options, tiny_model):
    model = tiny_model(**options)
    check_sum(model, check_trace(model))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_trace_of_one_token(positions, norm, tiny_model):
    model = tiny_model(positions=positions, norm=norm)
    found = check_trace(model, [7])
    check_sum(model, found)
    assert found.blocks[0].weights_HTT.flatten().tolist() == [1.0, 1.0]


def test_position_embedding_is_zero_where_positions_act_in_attention(tiny_model):
    for positions in ("rope", "alibi", "none"):
        assert not trace(tiny_model(positions=positions), IDS).position_TC.any()
    assert trace(tiny_model(positions="learned"), IDS).position_TC.any()


def test_alibi_bias_is_part_of_the_mask(tiny_model):
    block = trace(tiny_model(positions="alibi"), IDS).blocks[0]
    assert block.mask_HTT.shape == (2, len(IDS), len(IDS))
    close(block.mask_HTT[:, 2, :3], torch.tensor([[-2 / 16, -1 / 16, 0], [-2 / 256, -1 / 256, 0]]))


def test_trace_leaves_the_model_as_it_was(tiny_model):
    model = tiny_model(dropout=0.5).train()
    found = trace(model, IDS)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    close(found.logits_TV, trace(model.eval(), IDS).logits_TV)
    assert not found.logits_TV.requires_grad


def test_trace_is_float32_under_autocast(tiny_model):
    model = tiny_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = trace(model, IDS)
    torch.testing.assert_close(found.logits_TV, trace(model, IDS).logits_TV, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("ids", "message"), [([], "ids="), ([31], "token id 31"), ([-1], "token id -1"), ([1] * 13, "13 tokens")]
)
def test_trace_refuses(ids, message, tiny_model):
    with pytest.raises(UserError, match=message):
        trace(tiny_model(), ids)


def test_logit_lens_ends_at_the_model(tiny_model):
    model = tiny_model(norm="rmsnorm")
    found = trace(model, IDS)
    following = [*IDS[1:], 0]
    lens = logit_lens(model, found, following, n=3)
    probs_TV = found.logits_TV.softmax(dim=-1)
    close(lens.probs_LTN[-1], probs_TV.sort(descending=True).values[:, :3])
    for t, token in enumerate(following):
        order = found.logits_TV[t].argsort(descending=True).tolist()
        assert lens.rank_LT[-1, t] == order.index(token) + 1
    with torch.no_grad():
        first = model.logits(model.norm_f(model.wte.weight[IDS] + model.positions.wpe.weight[: len(IDS)]))
    assert torch.equal(lens.ids_LTN[0, :, 0], first.argmax(dim=-1))


def test_weights_follow_from_what_a_hook_sees(tiny_model):
    """``docs/python_api.md`` reads weights this way."""
    model, seen = tiny_model(), []
    model.blocks[1].attn.attend.register_forward_hook(lambda module, inputs, output: seen.append(inputs))
    found = trace(model, IDS)
    q, k, _, mask = seen[0]
    close(attention_weights(q, k, mask)[0], found.blocks[1].weights_HTT)


class OneMatrix(nn.Module):
    """An MLP of a user's own, without ``c_proj``."""

    def __init__(self, config):
        super().__init__()
        self.matrix = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x_BTC):
        return self.matrix(x_BTC).relu()


def test_trace_refuses_an_mlp_of_a_users_own_without_c_proj(tiny_model):
    model = tiny_model(mlp=f"{__name__}:OneMatrix")
    with pytest.raises(UserError, match=r"model.mlp.name=.*:OneMatrix: it has no c_proj"):
        trace(model, IDS)
    require_same_model(model.config, model.config, Path("run"), free=())  # as a resume does


class CubeRoot(nn.Module):
    """A norm of a user's own: weight * x^(1/3) + bias."""

    def __init__(self, dim, config):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.empty(dim)) for _ in range(2))

    def forward(self, x):
        return self.weight * x.sign() * x.abs() ** (1 / 3) + self.bias


class SplitCubeRoot(CubeRoot):
    """It divides by |x|^(2/3)."""

    def linearized(self, x, reference):
        return x / reference.abs() ** (2 / 3)


def test_parts_add_up_with_a_norm_of_a_users_own(tiny_model):
    model = tiny_model(norm=f"{__name__}:SplitCubeRoot")
    check_sum(model, check_trace(model))


def test_parts_need_the_method_linearized(tiny_model):
    model = tiny_model(norm=f"{__name__}:CubeRoot")
    with pytest.raises(UserError, match=r"model.norm.name=.*:CubeRoot: it has no method linearized"):
        contributions(model, trace(model, IDS))


@pytest.mark.parametrize("name", NORMS)
def test_linearized_norm_is_the_norm_at_its_reference_and_linear(name, tiny_model):
    norm = tiny_model(norm=name).norm_f.double()
    x, y, reference = torch.randn(3, 16, dtype=torch.float64)
    bias = getattr(norm, "bias", None)
    at_reference = norm.linearized(reference, reference) * norm.weight + (0.0 if bias is None else bias)
    torch.testing.assert_close(at_reference, norm(reference))
    together = norm.linearized(2 * x + y, reference)
    torch.testing.assert_close(together, 2 * norm.linearized(x, reference) + norm.linearized(y, reference))
