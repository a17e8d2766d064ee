"""GPT against the implementations in transformers: the same random weights, the same numbers."""

import itertools
import re

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

from gpt2lab.config import ModelConfig, NormConfig, PositionsConfig
from gpt2lab.model.attention import Attention, AttentionContext
from gpt2lab.model.mlp import MLPS
from gpt2lab.model.norms import RMSNorm
from gpt2lab.model.positions import Rope
from tests.caches import left_padded

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def hugging_face_gpt2(model, activation="gelu_new"):
    """GPT2LMHeadModel of the same shape, with the same weights."""
    config = model.config
    dropout_off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    reference = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            tie_word_embeddings=config.tie_head,
            activation_function=activation,
            attn_implementation="eager",
            **dropout_off,
        )
    )
    theirs = dict(reference.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            theirs.pop(hugging_face_name(name)).copy_(hugging_face_layout(name, parameter))
    assert not theirs
    return reference


def hugging_face_name(name):
    renamed = {"norm_1": "ln_1", "norm_2": "ln_2", "norm_f": "ln_f", "blocks": "h"}
    kept = [renamed.get(part, part) for part in name.split(".") if part != "positions"]
    return ".".join(kept if kept[0] == "lm_head" else ["transformer", *kept])


def hugging_face_layout(name, tensor):
    """Their Conv1D keeps its matrix as [in, out]."""
    return tensor.t() if re.search(r"c_(attn|proj|fc)\.weight", name) else tensor


def check_logits_loss_and_gradients(model, reference, tokens):
    theirs = reference(tokens, labels=tokens)  # predicts tokens[:, 1:] from tokens[:, :-1]
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(model(tokens), theirs.logits, **TOLERANCE)
    torch.testing.assert_close(loss, theirs.loss, **TOLERANCE)

    loss.backward()
    theirs.loss.backward()
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, parameter in model.named_parameters():
        expected = gradients[hugging_face_name(name)]
        torch.testing.assert_close(hugging_face_layout(name, parameter.grad), expected, **TOLERANCE, msg=name)


@pytest.mark.parametrize("tie_head", [True, False])
@pytest.mark.parametrize(
    ("shape", "batch", "length"),
    [
        ({"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 4, "vocab_size": 11}, 1, 2),
        ({"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 16, "vocab_size": 50}, 3, 16),
        ({"n_layer": 3, "n_head": 3, "n_embd": 48, "block_size": 20, "vocab_size": 97}, 2, 7),
    ],
)
def test_gpt2_logits_loss_and_all_gradients(tiny_model, shape, batch, length, tie_head):
    model = tiny_model(**shape, tie_head=tie_head)
    tokens = torch.randint(shape["vocab_size"], (batch, length))
    check_logits_loss_and_gradients(model, hugging_face_gpt2(model), tokens)


@pytest.mark.parametrize(
    ("mlp", "activation"),
    [("gelu", "gelu_new"), ("gelu_erf", "gelu"), ("silu", "silu"), ("silu", "swish"), ("relu2", "relu2")],
)
def test_gpt2_with_other_activations(tiny_model, mlp, activation):
    model = tiny_model(mlp=mlp)
    check_logits_loss_and_gradients(model, hugging_face_gpt2(model, activation), torch.randint(31, (2, 12)))


def test_activations_are_not_alike(tiny_model):
    logits = [tiny_model(mlp=mlp)(torch.arange(12)[None]) for mlp in MLPS if mlp != "swiglu"]
    for ours, other in itertools.combinations(logits, 2):
        assert (ours - other).abs().max() > 10 * TOLERANCE["atol"]


def test_left_padding_is_gpt2s(tiny_model):
    model = tiny_model()
    layout, tokens = left_padded(torch.tensor([0, 1, 9]), 0, 12), torch.randint(31, (3, 12))
    is_text = layout.segment_BT == 1
    reference = hugging_face_gpt2(model)
    theirs = reference(tokens, attention_mask=is_text.long(), position_ids=layout.pos_BT).logits
    torch.testing.assert_close(model(tokens, layout=layout)[is_text], theirs[is_text], **TOLERANCE)


def rope(head_dim, theta):
    positions = PositionsConfig(name="rope", rope_theta=theta)
    return Rope(ModelConfig(n_head=3, n_embd=3 * head_dim, positions=positions))


def llama(head_dim, theta):
    parameters = {"rope_type": "default", "rope_theta": theta}
    return LlamaConfig(
        hidden_size=3 * head_dim, num_attention_heads=3, num_key_value_heads=3, rope_parameters=parameters,
        attn_implementation="eager",
    )  # fmt: skip


@pytest.mark.parametrize("theta", [10_000.0, 500.0])
@pytest.mark.parametrize("head_dim", [2, 6, 64])
def test_rope_turns_as_llama_does(head_dim, theta):
    q, k = torch.randn(2, 2, 3, 50, head_dim)
    positions = torch.arange(40, 90)[None]
    ours = rope(head_dim, theta)
    cos, sin = LlamaRotaryEmbedding(llama(head_dim, theta))(q, positions)
    rotated = ours.rotate(q, k, ours.tables(positions))
    torch.testing.assert_close(rotated, apply_rotary_pos_emb(q, k, cos, sin), rtol=0, atol=1e-4)


def test_attention_with_rope_and_rmsnorm_is_llamas():
    config = ModelConfig(
        n_head=3,
        n_embd=24,
        bias=False,
        positions=PositionsConfig(name="rope"),
        norm=NormConfig(name="rmsnorm", eps=1e-3),
    )
    reference, reference_norm = LlamaAttention(llama(8, 10_000.0), layer_idx=0), LlamaRMSNorm(24, eps=1e-3)
    ours, our_norm, positions = Attention(config), RMSNorm(24, config), Rope(config)
    with torch.no_grad():
        ours.c_attn.weight.copy_(
            torch.cat([getattr(reference, f"{part}_proj").weight.normal_(std=0.5) for part in "qkv"])
        )
        ours.c_proj.weight.copy_(reference.o_proj.weight)
        our_norm.weight.copy_(reference_norm.weight.normal_(1.0))

    x = torch.randn(2, 9, 24)
    pos = torch.arange(9)[None]
    future = torch.full((9, 9), -torch.inf).triu(1)[None, None]
    expected, _ = reference(reference_norm(x), LlamaRotaryEmbedding(llama(8, 10_000.0))(x, pos), future)
    tables = positions.tables(pos)
    context = AttentionContext(lambda q, k: positions.rotate(q, k, tables), None)
    torch.testing.assert_close(ours(our_norm(x), context, None), expected, **TOLERANCE)
