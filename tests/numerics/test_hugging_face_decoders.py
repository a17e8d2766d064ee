"""Whole models of transformers that are made of our swaps: Llama, Qwen3, GPT-NeoX, MPT, with the same random weights.

Their logits, loss and every gradient, and Llama's and MPT's after left padding too.
"""

import pytest
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from gpt2lab.model.positions import alibi_slopes
from tests.caches import left_padded
from tests.conftest import make_tiny_model

CLOSE = {"rtol": 1e-5, "atol": 2e-5}
HIDDEN = 24
SHAPE = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 53, "block_size": 16}
LLAMA_NAMES = {
    "wte": "model.embed_tokens", "norm_f": "model.norm", "blocks": "model.layers", "norm_1": "input_layernorm",
    "norm_2": "post_attention_layernorm", "attn": "self_attn", "c_proj@attn": "o_proj", "c_proj@mlp": "down_proj",
    "c_gate": "gate_proj", "c_fc": "up_proj",
}  # fmt: skip
NEOX_NAMES = {
    "wte": "gpt_neox.embed_in", "norm_f": "gpt_neox.final_layer_norm", "blocks": "gpt_neox.layers",
    "norm_1": "input_layernorm", "norm_2": "post_attention_layernorm", "attn": "attention", "c_attn": "query_key_value",
    "c_proj@attn": "dense", "c_proj@mlp": "dense_4h_to_h", "c_fc": "dense_h_to_4h",
}  # fmt: skip
MPT_NAMES = {
    "wte": "transformer.wte", "norm_f": "transformer.norm_f", "blocks": "transformer.blocks", "c_attn": "Wqkv",
    "c_proj@attn": "out_proj", "mlp": "ffn", "c_fc": "up_proj", "c_proj@mlp": "down_proj",
}  # fmt: skip


def their_name(name, renamed):
    branch = "mlp" if ".mlp." in name else "attn"
    parts = (renamed.get(f"{part}@{branch}", renamed.get(part, part)) for part in name.split("."))
    return ".".join(parts)


def pairs(model, renamed):
    """(their name, our number of it): of a parameter, or of its part where they have separate q, k and v."""
    config = model.config
    sizes = [config.n_head * config.head_dim, *[config.kv_heads * config.head_dim] * 2]

    def split(tensor):
        return tensor.split(sizes)

    def interleave(tensor):  # GPT-NeoX has q, k and v of head 0, then those of head 1, ...
        return tensor.unflatten(0, (3, config.n_head, -1)).transpose(0, 1).flatten(0, 2)

    for name, parameter in model.named_parameters():
        theirs = their_name(name, renamed)
        if "c_attn" in name and renamed is LLAMA_NAMES:
            for i, part in enumerate("qkv"):
                yield theirs.replace("c_attn", f"{part}_proj"), parameter, lambda tensor, i=i: split(tensor)[i]
        elif "c_attn" in name and renamed is NEOX_NAMES:
            yield theirs, parameter, interleave
        else:
            yield theirs, parameter, lambda tensor: tensor


def give_weights(model, reference, renamed):
    theirs = dict(reference.named_parameters())
    with torch.no_grad():
        for name, parameter, part in pairs(model, renamed):
            theirs.pop(name).copy_(part(parameter))
    assert not theirs
    return reference.eval()


def llama(model, *, config_class=LlamaConfig, model_class=LlamaForCausalLM, **more):
    config = model.config
    return give_weights(
        model,
        model_class(
            config_class(
                vocab_size=config.vocab_size, hidden_size=config.n_embd, intermediate_size=HIDDEN,
                num_hidden_layers=config.n_layer, num_attention_heads=config.n_head, head_dim=config.head_dim,
                num_key_value_heads=config.kv_heads, max_position_embeddings=config.block_size,
                rms_norm_eps=config.norm.eps, tie_word_embeddings=config.tie_head, attn_implementation="eager",
                rope_parameters={"rope_type": "default", "rope_theta": config.positions.rope_theta}, **more,
            )
        ),
        LLAMA_NAMES,
    )  # fmt: skip


def qwen3(model):
    return llama(model, config_class=Qwen3Config, model_class=Qwen3ForCausalLM)


def gpt_neox(model):
    config = model.config
    rope = {
        "rope_type": "default",
        "rope_theta": config.positions.rope_theta,
        "partial_rotary_factor": config.positions.rope_fraction,
    }
    return give_weights(
        model,
        GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=config.vocab_size, hidden_size=config.n_embd, intermediate_size=4 * config.n_embd,
                num_hidden_layers=config.n_layer, num_attention_heads=config.n_head, hidden_act="gelu",
                max_position_embeddings=config.block_size, layer_norm_eps=config.norm.eps, use_parallel_residual=False,
                tie_word_embeddings=config.tie_head, rope_parameters=rope, attn_implementation="eager",
            )
        ),
        NEOX_NAMES,
    )  # fmt: skip


def mpt(model):
    config = model.config
    return give_weights(
        model,
        MptForCausalLM(
            MptConfig(
                vocab_size=config.vocab_size, d_model=config.n_embd, n_heads=config.n_head, n_layers=config.n_layer,
                max_seq_len=config.block_size, layer_norm_epsilon=config.norm.eps, use_cache=False,
                attn_implementation="eager",
            )
        ),
        MPT_NAMES,
    )  # fmt: skip


LLAMA = {"positions": "rope", "norm": "rmsnorm", "mlp": "swiglu", "hidden_dim": HIDDEN, "bias": False}
NEOX = {"positions": "rope", "mlp": "gelu_erf"}
MPT = {"positions": "alibi", "mlp": "gelu_erf", "bias": False}
CASES = {
    "llama": (llama, LLAMA_NAMES, LLAMA),
    "llama untied": (llama, LLAMA_NAMES, LLAMA | {"tie_head": False}),
    "llama with grouped heads": (llama, LLAMA_NAMES, LLAMA | {"n_kv_head": 2}),
    "llama with one head of keys": (llama, LLAMA_NAMES, LLAMA | {"n_kv_head": 1, "tie_head": False}),
    "qwen3": (qwen3, LLAMA_NAMES, LLAMA | {"qk_norm": True}),
    "qwen3 with grouped heads": (qwen3, LLAMA_NAMES, LLAMA | {"qk_norm": True, "n_kv_head": 2}),
    "gpt-neox": (gpt_neox, NEOX_NAMES, NEOX),
    "gpt-neox, a quarter turns": (gpt_neox, NEOX_NAMES, NEOX | {"rope_fraction": 0.25, "tie_head": False}),
    "mpt": (mpt, MPT_NAMES, MPT),
    "mpt with six heads": (mpt, MPT_NAMES, MPT | {"n_head": 6, "n_embd": 36}),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_loss_and_all_gradients(case):
    build, renamed, settings = CASES[case]
    model = make_tiny_model(**SHAPE | settings)
    reference = build(model)
    tokens = torch.randint(53, (3, 16))
    theirs = reference(tokens, labels=tokens)  # predicts tokens[:, 1:] from tokens[:, :-1]
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(model(tokens), theirs.logits, **CLOSE)
    torch.testing.assert_close(loss, theirs.loss, **CLOSE)

    loss.backward()
    theirs.loss.backward()
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, parameter, part in pairs(model, renamed):
        torch.testing.assert_close(part(parameter.grad), gradients[name], **CLOSE, msg=name)


@pytest.mark.parametrize("case", ["llama", "gpt-neox, a quarter turns", "mpt"])
def test_left_padding(case):
    build, _, settings = CASES[case]
    model = make_tiny_model(**SHAPE | settings)
    tokens, n_padding = torch.randint(53, (3, 16)), torch.tensor([0, 1, 9])
    layout = left_padded(n_padding, 0, 16)
    is_text = layout.segment_BT == 1
    positions = {} if case == "mpt" else {"position_ids": layout.pos_BT}
    theirs = build(model)(tokens, attention_mask=is_text.long(), **positions).logits
    torch.testing.assert_close(model(tokens, layout=layout)[is_text], theirs[is_text], **CLOSE)


@pytest.mark.parametrize("n_head", range(1, 41))
def test_alibi_slopes_are_blooms(n_head):
    """Theirs is slope * (key's position), which is ours up to a number that is the same for all keys of a query."""
    slopes = build_alibi_tensor(torch.ones(1, 2), n_head, torch.float32)[:, 0, 1]
    torch.testing.assert_close(alibi_slopes(n_head, torch.device("cpu")), slopes, rtol=1e-5, atol=0)
