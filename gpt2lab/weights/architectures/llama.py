"""Llama as ``transformers`` has it."""

from typing import Any, ClassVar

from gpt2lab.config import MLPConfig, ModelConfig, NormConfig, PositionsConfig
from gpt2lab.model import GPT
from gpt2lab.weights.architectures.base import Architecture, Modules, unless
from gpt2lab.weights.config_json import ConfigJson
from gpt2lab.weights.parameter_map import split_qkv, vocabulary_rows


class Llama(Architecture):
    """Touvron et al. 2023, as LlamaForCausalLM has it: rope, rmsnorm, swiglu, no biases."""

    NAME = "Llama"
    PREFIX, EMBEDDING, HEAD = "model.", "model.embed_tokens.weight", "lm_head.weight"
    BUFFERS = r"rotary_emb\.inv_freq"
    MODULES: ClassVar = {
        "wte": Modules(["model.embed_tokens"], vocabulary_rows),
        "blocks.N.norm_1": Modules(["model.layers.N.input_layernorm"]),
        "blocks.N.attn.c_attn": Modules([f"model.layers.N.self_attn.{part}_proj" for part in "qkv"], split_qkv),
        "blocks.N.attn.c_proj": Modules(["model.layers.N.self_attn.o_proj"]),
        "blocks.N.norm_2": Modules(["model.layers.N.post_attention_layernorm"]),
        "blocks.N.mlp.c_gate": Modules(["model.layers.N.mlp.gate_proj"]),
        "blocks.N.mlp.c_fc": Modules(["model.layers.N.mlp.up_proj"]),
        "blocks.N.mlp.c_proj": Modules(["model.layers.N.mlp.down_proj"]),
        "norm_f": Modules(["model.norm"]),
        "lm_head": Modules(["lm_head"], vocabulary_rows),
    }

    def _model_config(self, settings: ConfigJson) -> ModelConfig:
        settings.require("hidden_act", expected="silu")
        settings.require("attention_bias", expected=False)
        settings.require("mlp_bias", expected=False)
        n_embd, n_head = settings.whole("hidden_size"), settings.whole("num_attention_heads")
        settings.require("head_dim", expected=n_embd // n_head)
        theta, fraction = settings.rope(1.0, "rope_theta", "partial_rotary_factor")
        if fraction != 1:
            settings.refuse("partial_rotary_factor", fraction, "1, a Llama turns whole heads")
        return ModelConfig(
            n_layer=settings.whole("num_hidden_layers"),
            n_head=n_head,
            n_kv_head=settings.whole_or_none("num_key_value_heads"),
            n_embd=n_embd,
            block_size=settings.whole("max_position_embeddings"),
            vocab_size=settings.whole("vocab_size"),
            bias=False,
            tie_head=settings.switch("tie_word_embeddings", default=False),
            positions=PositionsConfig("rope", theta),
            norm=NormConfig("rmsnorm", settings.number("rms_norm_eps", 1e-6)),
            mlp=MLPConfig("swiglu", settings.whole("intermediate_size")),
        )

    def unsupported(self, config: ModelConfig) -> list[str]:
        """See ``Architecture``."""
        fraction = config.positions.rope_fraction
        return [
            *unless(config.positions.name == "rope", f"model/positions={config.positions.name}"),
            *unless(fraction == 1 or config.positions.name != "rope", f"model.positions.rope_fraction={fraction}"),
            *unless(config.norm.name == "rmsnorm", f"model/norm={config.norm.name}"),
            *unless(config.mlp.name == "swiglu", f"model/mlp={config.mlp.name}"),
            *unless(not config.bias, "model.bias=true"),
            *unless(not config.qk_norm, "model.qk_norm=true"),
        ]

    def config_json(self, model: GPT) -> dict[str, Any]:
        """See ``Architecture``."""
        config = model.config
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.block_size,
            "hidden_size": config.n_embd,
            "intermediate_size": self.parameter_map(model)["model.layers.0.mlp.down_proj.weight"].shape[1],
            "num_hidden_layers": config.n_layer,
            "num_attention_heads": config.n_head,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": config.norm.eps,
            # transformers 5 reads the group, earlier versions the key after it
            "rope_parameters": {"rope_type": "default", "rope_theta": config.positions.rope_theta},
            "rope_theta": config.positions.rope_theta,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": config.tie_head,
            "dtype": "float32",
        }
