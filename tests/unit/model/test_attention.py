"""gpt2lab.model.attention: what a forward hook sees, and the weights computed from it, against torch's attention."""

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gpt2lab.model.attention import CausalAttention, attention_weights
from tests.caches import KVCache, left_padded

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("n_kv_head", [1, 2, 6])
@pytest.mark.parametrize(("T", "S"), [(1, 1), (1, 5), (5, 5), (3, 5)])
@pytest.mark.parametrize("mask", ["none", "bool", "bias"])
def test_attention_weights_are_those_of_torch(n_kv_head, T, S, mask):
    if mask == "none" and T not in (1, S):
        pytest.skip("several new tokens after cached ones need a mask")
    q, k, v = torch.randn(2, 6, T, 4), torch.randn(2, n_kv_head, S, 4), torch.randn(2, n_kv_head, S, 4)
    allowed = torch.ones(T, S, dtype=torch.bool).tril(S - T)
    masks = {"none": None, "bool": allowed, "bias": torch.randn(2, 6, T, S).masked_fill(~allowed, -torch.inf)}
    weights = attention_weights(q, k, masks[mask])
    expected = F.scaled_dot_product_attention(
        q, k, v, masks[mask], is_causal=mask == "none" and T == S, enable_gqa=True
    )
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 6, T))
    torch.testing.assert_close(weights @ v.repeat_interleave(6 // n_kv_head, dim=1), expected, **CLOSE)
    torch.testing.assert_close(CausalAttention(0.0)(q, k, v, masks[mask]), expected, **CLOSE)


def test_float64_takes_a_float32_bias():
    """ALiBi's; from T = 16 on, PyTorch's kernel for a CPU reads its bytes as float64."""
    q, k, v = torch.randn(3, 2, 4, 32, 16, dtype=torch.float64)
    bias = torch.randn(1, 4, 32, 32).masked_fill(~torch.ones(32, 32, dtype=torch.bool).tril(), -torch.inf)
    expected = (q @ k.mT / 4 + bias).softmax(-1) @ v
    torch.testing.assert_close(CausalAttention(0.0)(q, k, v, bias), expected)


class LikeOnCUDA(TorchFunctionMode):
    """Tensors say that they are on a GPU; whether attention is asked to share heads is recorded."""

    def __init__(self):
        super().__init__()
        self.shares_heads = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function == torch.Tensor.is_cuda.__get__:
            return True
        if function is F.scaled_dot_product_attention:
            self.shares_heads.append(kwargs["enable_gqa"])
        return function(*args, **(kwargs or {}))


def test_heads_are_shared_on_a_gpu_only_where_flash_attention_does_it():
    """In other cases PyTorch would fall back to a product that holds all scores."""
    mask, shared = torch.ones(5, 5, dtype=torch.bool).tril(), []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        q, k, v = (torch.randn(2, heads, 5, 4, dtype=dtype) for heads in (6, 2, 2))
        expected = CausalAttention(0.0)(q, k, v, None)
        with LikeOnCUDA() as mode:
            for each in (None, mask):
                torch.testing.assert_close(CausalAttention(0.0)(q, k, v, each), expected)
        shared.append(mode.shares_heads)
    with LikeOnCUDA() as mode, torch.autocast("cpu", dtype=torch.bfloat16):  # which casts queries in float32
        CausalAttention(0.0)(q.float(), k, v, None)
    assert [*shared, mode.shares_heads] == [[False, False], [True, False], [True, False], [True]]


def test_attention_weights_are_float32_from_bfloat16():
    q, k = torch.randn(2, 1, 2, 5, 8, dtype=torch.bfloat16)
    weights = attention_weights(q, k, None)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, attention_weights(q.float(), k.float(), None))


def test_forward_hook_sees_queries_keys_values_and_mask(tiny_model, variant, options):
    """From what the hook of each layer sees, the layer's output follows."""
    model = tiny_model(**variant | options)
    seen = []
    for block in model.blocks:
        block.attn.attend.register_forward_hook(lambda module, inputs, output: seen.append((*inputs, output)))
    tokens = torch.randint(31, (2, 7))
    model(tokens, layout=left_padded(torch.tensor([0, 3]), 0, 7))
    assert len(seen) == model.config.n_layer
    for q, k, v, mask, output in seen:
        groups = q.shape[1] // k.shape[1]
        weights = attention_weights(q, k, mask)
        assert weights.shape == (2, model.config.n_head, 7, 7)
        torch.testing.assert_close(weights @ v.repeat_interleave(groups, dim=1), output, **CLOSE)
        assert (weights[1, :, 3:, :3] == 0).all()  # row 1 begins with 3 columns of padding


def test_forward_hook_sees_cached_keys_too(tiny_model, cpu):
    model = tiny_model()
    cache = KVCache(model.config, 1, 6, cpu.device, torch.float32)
    shapes = []
    model.blocks[0].attn.attend.register_forward_hook(
        lambda module, inputs, output: shapes.append((inputs[0].shape[2], inputs[1].shape[2]))
    )
    for part in torch.randint(31, (1, 6)).split([4, 1, 1], dim=1):
        model(part, cache=cache)
    assert shapes == [(4, 4), (1, 5), (1, 6)]


def test_attend_adds_nothing_to_the_state_dict(tiny_model):
    assert not [name for name in tiny_model().state_dict() if "attend" in name]


@pytest.mark.parametrize("backward", [False, True])
def test_compiled_blocks_do_not_break_or_recompile_with_the_length(tiny_model, positions, backward):
    """Training, validation and generation have other lengths: one graph for T = 1, and two for all others."""
    model, graphs = tiny_model(positions=positions, n_kv_head=1, block_size=64), []
    torch._dynamo.reset()

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    for block in model.blocks:
        block.forward = torch.compile(block.forward, fullgraph=True, backend=count)
    plain = tiny_model(positions=positions, n_kv_head=1, block_size=64)
    for T in (8, 16, 24, 1, 40):
        tokens = torch.randint(31, (2, T))
        with torch.set_grad_enabled(backward):
            torch.testing.assert_close(model(tokens), plain(tokens), **CLOSE)
    assert len(graphs) <= 3 * len(model.blocks)
