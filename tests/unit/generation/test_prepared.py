"""gpt2lab.generation.prepared: weights are prepared once, and never used after a change."""

import copy
import gc
import weakref

import pytest
import torch

from gpt2lab.config import SamplingConfig
from gpt2lab.generation import generate, prepared, weights
from gpt2lab.runtime import Runtime
from tests.conftest import make_tiny_model

CPU = Runtime(torch.device("cpu"), "fp32")
PROMPTS = [[1, 2, 3], [4]]


@pytest.fixture
def preparations(monkeypatch):
    """The models that were prepared, in order, with the kernels of large ones."""
    monkeypatch.setattr(weights, "SMALL_PRODUCT", 0)
    seen, prepare = [], prepared.decoding_copy
    monkeypatch.setattr(prepared, "decoding_copy", lambda model, *rest: seen.append(id(model)) or prepare(model, *rest))
    return seen


def texts_of(model):
    return generate(model, PROMPTS, SamplingConfig(max_new_tokens=8, seed=3), eot_id=-1, runtime=CPU)


def texts_of_a_new_model(model):
    """The same from a model that has these weights and was never asked before."""
    fresh = copy.deepcopy(model)
    fresh._forward_hooks.clear()
    return texts_of(fresh)


def test_an_unchanged_model_is_prepared_once(preparations):
    model = make_tiny_model()
    assert texts_of(model) == texts_of(model)
    assert len(preparations) == 1
    generate(model, PROMPTS[:1], SamplingConfig(max_new_tokens=2), eot_id=-1, runtime=CPU)  # one row: other kernels
    assert len(preparations) == 2


@pytest.mark.parametrize(
    ("settings", "expected"), [({"temperature": 0}, 1), ({"top_k": 5}, 5), ({"top_p": 0.9}, None), ({}, None)]
)
def test_only_greedy_and_top_k_decoding_leave_small_logits_inexact(settings, expected, monkeypatch):
    asked, make_head = [], prepared.decoding_head
    monkeypatch.setattr(prepared, "decoding_head", lambda *rest: asked.append(rest[-1]) or make_head(*rest))
    model = make_tiny_model()
    for _ in range(2):
        generate(model, PROMPTS, SamplingConfig(max_new_tokens=2, **settings), eot_id=-1, runtime=CPU)
    generate(model, PROMPTS, SamplingConfig(max_new_tokens=2, top_k=7), eot_id=-1, runtime=CPU)
    assert asked == [expected, 7]


def adamw_step(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.3, fused=True)
    model.loss(torch.randint(31, (2, 8)), torch.randint(31, (2, 8))).backward()
    optimizer.step()


def through_data(model):
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn_like(parameter))


def in_inference_mode(model):
    with torch.inference_mode():
        model.blocks[1].mlp.c_fc.weight.mul_(-1)


def exchanged_rows(model):
    """The sum of the bits stays."""
    with torch.no_grad():
        model.blocks[0].attn.c_proj.weight.copy_(model.blocks[0].attn.c_proj.weight.flip(0))


def exchanged_rows_through_data(model):
    """Neither the counter nor the sums of columns change."""
    weight = model.blocks[0].attn.c_proj.weight.data
    weight.copy_(weight.flip(0))


def exchanged_columns_through_data(model):
    weight = model.blocks[0].attn.c_proj.weight.data
    weight.copy_(weight.roll(2, 1))  # pairs of float32, which are summed as one integer


def another_setting(model):
    for block in model.blocks:
        block.norm_1.eps = 3.0


def another_function(model):
    for block in model.blocks:
        block.mlp.activation = torch.square


def another_parameter(model):
    model.wte.weight = torch.nn.Parameter(torch.randn_like(model.wte.weight))


def another_module(model):
    model.blocks[0] = make_tiny_model(seed=5).blocks[0]


def loaded(model):
    model.load_state_dict({name: torch.randn_like(values) for name, values in model.state_dict().items()})


CHANGES = [
    adamw_step, through_data, in_inference_mode, exchanged_rows, exchanged_rows_through_data,
    exchanged_columns_through_data,    another_setting, another_function, another_parameter, another_module, loaded,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("tie_head", [True, False])
def test_changed_weights_are_used(preparations, change, tie_head):
    model = make_tiny_model(tie_head=tie_head)
    before = texts_of(model)
    change(model)
    after = texts_of(model)
    assert len(preparations) == 2
    assert after == texts_of_a_new_model(model)
    assert after != before


def test_sampling_between_steps_of_training_sees_each_step(preparations):
    model = make_tiny_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        assert texts_of(model) == texts_of_a_new_model(model)
        assert model.training
        assert model not in prepared._CACHE  # which would be memory for nothing
        model.loss(torch.randint(31, (2, 8)), torch.randint(31, (2, 8))).backward()
        optimizer.step()


def transposed(model):
    linear = model.blocks[0].attn.c_proj
    linear.weight = torch.nn.Parameter(linear.weight.detach().t().contiguous().t())


def with_an_empty_buffer(model):
    model.register_buffer("nothing", torch.zeros(0), persistent=False)


def with_a_scalar(model):
    model.register_buffer("scale", torch.tensor(1.0), persistent=False)


@pytest.mark.parametrize("change", [transposed, with_an_empty_buffer, with_a_scalar], ids=lambda c: c.__name__)
def test_tensors_of_any_layout_are_compared(preparations, change):
    model = make_tiny_model()
    expected = texts_of(model)
    change(model)
    assert texts_of(model) == expected
    prepared_so_far = len(preparations)
    assert texts_of(model) == expected
    assert len(preparations) == prepared_so_far


class NegativeLinear(torch.nn.Linear):
    def forward(self, x):
        return -3 * super().forward(x)


class ReadsItsWeight(torch.nn.Module):
    """A variant of one's own that multiplies by itself."""

    def __init__(self, n_embd):
        super().__init__()
        self.c_fc = torch.nn.Linear(n_embd, n_embd)

    def forward(self, x):
        return -3 * torch.nn.functional.linear(x, self.c_fc.weight)


def hook_on_linear(block):
    block.mlp.c_proj.register_forward_hook(lambda module, inputs, output: output * -3)


def hook_before_linear(block):
    block.attn.c_proj.register_forward_pre_hook(lambda module, inputs: (inputs[0] * -3,))


def hook_on_attention(block):
    block.attn.attend.register_forward_hook(lambda module, inputs, output: output * -3)


def patched_linear(block):
    forward = block.mlp.c_proj.forward
    block.mlp.c_proj.forward = lambda x: forward(x) * -3


def patched_block(block):
    forward = block.forward
    block.forward = lambda *inputs: forward(*inputs) * -1.5


def subclass_of_linear(block):
    linear = NegativeLinear(block.mlp.c_proj.in_features, block.mlp.c_proj.out_features)
    linear.load_state_dict(block.mlp.c_proj.state_dict())
    block.mlp.c_proj = linear


def own_variant(block):
    block.mlp = ReadsItsWeight(block.mlp.c_proj.out_features)


@torch.no_grad()
def most_likely(model, tokens, n):
    for _ in range(n):
        tokens = [*tokens, model(torch.tensor([tokens]))[0, -1].argmax().item()]
    return tokens[-n:]


EXPERIMENTS = [
    hook_on_linear, hook_before_linear, hook_on_attention, patched_linear, patched_block, subclass_of_linear,
    own_variant,
]  # fmt: skip


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.__name__)
def test_decoding_computes_what_the_model_computes(preparations, experiment):
    model, sampling = make_tiny_model(), SamplingConfig(max_new_tokens=8, temperature=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4  # so that what is most likely depends on the tokens
    before = most_likely(model, [1, 2, 3], 8)
    for block in model.blocks:
        experiment(block)
    expected = most_likely(model, [1, 2, 3], 8)
    assert expected != before
    for _ in range(2):
        assert generate(model, [[1, 2, 3]], sampling, eot_id=-1, runtime=CPU) == [expected]


class Scale:
    """An object whose content its name does not tell."""

    factor = 1.0


class ScaledMLP(torch.nn.Module):
    def __init__(self, mlp, scale):
        super().__init__()
        self.mlp, self.scale = mlp, scale

    def forward(self, x):
        return self.mlp(x) * self.scale.factor


def test_a_change_inside_an_attribute_takes_effect(preparations):
    model, scale = make_tiny_model(), Scale()
    for block in model.blocks:
        block.mlp = ScaledMLP(block.mlp, scale)
    before = texts_of(model)
    scale.factor = -20.0
    assert texts_of(model) == texts_of_a_new_model(model) != before


def test_hooks_take_effect(preparations):
    model = make_tiny_model()
    before = texts_of(model)
    handle = model.blocks[0].mlp.register_forward_hook(lambda module, inputs, output: output * -3)
    assert texts_of(model) != before
    handle.remove()
    assert texts_of(model) == before


def test_prepared_weights_go_with_the_model(preparations):
    model = make_tiny_model()
    texts_of(model)
    kept = weakref.ref(prepared._CACHE[model][1].model)
    del model
    gc.collect()
    assert kept() is None
