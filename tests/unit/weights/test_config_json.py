"""config.json: what a directory asks for and gpt2lab has not is refused in one line, and nothing is misread."""

import json

import pytest

from gpt2lab.config import UserError
from gpt2lab.weights.architectures import ARCHITECTURES
from gpt2lab.weights.config_json import ConfigJson

BASE = {
    "gpt2": {"vocab_size": 31, "n_positions": 12, "n_embd": 16, "n_layer": 2, "n_head": 2},
    "gpt_neox": {
        "vocab_size": 31, "max_position_embeddings": 12, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 40, "use_parallel_residual": False,
    },
    "llama": {
        "vocab_size": 31, "max_position_embeddings": 12, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 40,
    },
}  # fmt: skip


@pytest.fixture
def read(tmp_path):
    """The ModelConfig for the settings of an architecture; a value of ... leaves the key out."""

    def call(kind, **changes):
        values = {key: value for key, value in (BASE[kind] | changes).items() if value is not ...}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(values))
        return ARCHITECTURES[kind].model_config(ConfigJson(path))

    return call


@pytest.mark.parametrize(
    ("kind", "changes", "fragments"),
    [
        ("gpt2", {"scale_attn_weights": False}, ["scale_attn_weights=false", "expected true"]),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, ["scale_attn_by_inverse_layer_idx=true"]),
        ("gpt2", {"add_cross_attention": True}, ["add_cross_attention=true"]),
        ("gpt2", {"activation_function": "mish"}, ['activation_function="mish"', "gelu_new or"]),
        ("gpt2", {"activation_function": ["gelu"]}, ["activation_function"]),
        ("gpt2", {"n_embd": 15}, ["n_head=2", "n_embd=15"]),
        ("gpt2", {"n_layer": ...}, ["n_layer", "missing"]),
        ("gpt2", {"n_layer": "2"}, ['n_layer="2"', "whole number"]),
        ("gpt2", {"n_layer": True}, ["n_layer=true", "whole number"]),
        ("gpt2", {"vocab_size": 0}, ["vocab_size=0"]),
        ("gpt2", {"n_inner": 6.5}, ["n_inner=6.5"]),
        ("gpt2", {"layer_norm_epsilon": "tiny"}, ['layer_norm_epsilon="tiny"', "number"]),
        ("gpt2", {"layer_norm_epsilon": 0}, ["eps=0"]),
        ("gpt2", {"tie_word_embeddings": "yes"}, ['tie_word_embeddings="yes"', "true or false"]),
        ("gpt2", {"quantization_config": {"bits": 4}}, ["quantization_config", "bits"]),
        ("gpt_neox", {"use_parallel_residual": True}, ["use_parallel_residual=true", "expected false"]),
        ("gpt_neox", {"use_parallel_residual": ...}, ["use_parallel_residual=true", "expected false"]),
        ("gpt_neox", {"attention_bias": False}, ["attention_bias=false"]),
        ("gpt_neox", {"hidden_act": "gelu_fast"}, ['hidden_act="gelu_fast"']),
        ("gpt_neox", {"rope_scaling": {"type": "linear", "factor": 2.0}}, ["rope_scaling.type", "linear"]),
        ("gpt_neox", {"rotary_pct": "a quarter"}, ["partial_rotary_factor", "number"]),
        ("gpt_neox", {"rotary_pct": 0}, ["rope_fraction=0"]),
        ("gpt_neox", {"quantization_config": {}}, ["quantization_config"]),
        ("llama", {"attention_bias": True}, ["attention_bias=true"]),
        ("llama", {"mlp_bias": True}, ["mlp_bias=true"]),
        ("llama", {"head_dim": 16}, ["head_dim=16", "expected 8"]),
        ("llama", {"hidden_act": "gelu"}, ['hidden_act="gelu"', "silu"]),
        ("llama", {"num_key_value_heads": 3}, ["n_kv_head=3"]),
        ("llama", {"rope_parameters": {"rope_type": "llama3"}}, ["rope_parameters.rope_type", "llama3"]),
        ("llama", {"rope_parameters": {"rope_type": "default", "factor": 8.0}}, ["rope_parameters.factor=8.0"]),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, ["partial_rotary_factor=0.5"]),
        ("llama", {"rope_parameters": "plain"}, ["rope_parameters"]),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, ["rope_scaling.rope_type", "yarn"]),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, ["rope_scaling.type", "dynamic"]),
        ("llama", {"quantization_config": {"quant_method": "fp8"}}, ["quantization_config"]),
    ],
)  # fmt: skip
def test_what_gpt2lab_has_not(read, tmp_path, kind, changes, fragments):
    with pytest.raises(UserError) as caught:
        read(kind, **changes)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "config.json"))
    assert message.count("config.json") == 1
    assert "\n" not in message
    assert all(fragment in message for fragment in fragments), message


def test_long_values_are_cut_short(read):
    with pytest.raises(UserError) as caught:
        read("llama", quantization_config={f"key_{i}": i for i in range(1000)})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("kind", BASE)
def test_null_is_an_absent_key(read, kind):
    nothing = dict.fromkeys(
        ("rope_scaling", "rope_parameters", "quantization_config", "tie_word_embeddings", "n_inner")
    )
    assert read(kind, **nothing) == read(kind)


def test_default_values_are_those_of_transformers(read):
    assert read("gpt2").tie_head
    assert not read("gpt_neox").tie_head
    assert not read("llama").tie_head
    assert read("gpt_neox").positions.rope_fraction == 0.25
    assert (read("gpt2").norm.eps, read("gpt_neox").norm.eps, read("llama").norm.eps) == (1e-5, 1e-5, 1e-6)
    assert (read("gpt2").mlp.name, read("gpt_neox").mlp.name, read("llama").mlp.name) == ("gelu", "gelu_erf", "swiglu")


def test_harmless_settings_pass(read):
    assert read("gpt2", reorder_and_upcast_attn=True, use_cache=False, summary_type="cls_index") == read("gpt2")
    assert read("llama", pretraining_tp=2, rope_scaling={"rope_type": "default"}) == read("llama")
    assert read("llama", head_dim=8) == read("llama")
