"""GPT-NeoX as ``transformers`` has it."""

from typing import Any, ClassVar

from gpt2lab.config import MLPConfig, ModelConfig, NormConfig, PositionsConfig
from gpt2lab.model import GPT
from gpt2lab.weights.architectures.base import ACTIVATIONS, Architecture, Modules, activation_name, unless
from gpt2lab.weights.config_json import ConfigJson
from gpt2lab.weights.parameter_map import interleaved_qkv, vocabulary_rows


class GPTNeoX(Architecture):
    """Black et al. 2022, as GPTNeoXForCausalLM has it, with the sequential residual."""

    NAME = "GPT-NeoX"
    PREFIX, EMBEDDING, HEAD = "gpt_neox.", "gpt_neox.embed_in.weight", "embed_out.weight"
    BUFFERS = r"attention\.(bias|masked_bias)|rotary_emb\.inv_freq"
    MODULES: ClassVar = {
        "wte": Modules(["gpt_neox.embed_in"], vocabulary_rows),
        "blocks.N.norm_1": Modules(["gpt_neox.layers.N.input_layernorm"]),
        "blocks.N.attn.c_attn": Modules(["gpt_neox.layers.N.attention.query_key_value"], interleaved_qkv),
        "blocks.N.attn.c_proj": Modules(["gpt_neox.layers.N.attention.dense"]),
        "blocks.N.norm_2": Modules(["gpt_neox.layers.N.post_attention_layernorm"]),
        "blocks.N.mlp.c_fc": Modules(["gpt_neox.layers.N.mlp.dense_h_to_4h"]),
        "blocks.N.mlp.c_proj": Modules(["gpt_neox.layers.N.mlp.dense_4h_to_h"]),
        "norm_f": Modules(["gpt_neox.final_layer_norm"]),
        "lm_head": Modules(["embed_out"], vocabulary_rows),
    }

    def _model_config(self, settings: ConfigJson) -> ModelConfig:
        settings.require("use_parallel_residual", expected=False, absent=True)
        settings.require("attention_bias", expected=True)
        theta, fraction = settings.rope(0.25, "rotary_emb_base", "rotary_pct")
        return ModelConfig(
            n_layer=settings.whole("num_hidden_layers"),
            n_head=settings.whole("num_attention_heads"),
            n_embd=settings.whole("hidden_size"),
            block_size=settings.whole("max_position_embeddings"),
            vocab_size=settings.whole("vocab_size"),
            tie_head=settings.switch("tie_word_embeddings", default=False),
            positions=PositionsConfig("rope", theta, fraction),
            norm=NormConfig("layernorm", settings.number("layer_norm_eps", 1e-5)),
            mlp=MLPConfig(settings.choice("hidden_act", ACTIVATIONS, "gelu"), settings.whole("intermediate_size")),
        )

    def unsupported(self, config: ModelConfig) -> list[str]:
        """See ``Architecture``."""
        return [
            *unless(config.positions.name == "rope", f"model/positions={config.positions.name}"),
            *unless(config.norm.name == "layernorm", f"model/norm={config.norm.name}"),
            *unless(config.mlp.name in ACTIVATIONS.values(), f"model/mlp={config.mlp.name}"),
            *unless(config.bias, "model.bias=false"),
            *unless(config.kv_heads == config.n_head, f"model.n_kv_head={config.n_kv_head}"),
            *unless(not config.qk_norm, "model.qk_norm=true"),
        ]

    def config_json(self, model: GPT) -> dict[str, Any]:
        """See ``Architecture``."""
        config = model.config
        return {
            "architectures": ["GPTNeoXForCausalLM"],
            "model_type": "gpt_neox",
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.block_size,
            "hidden_size": config.n_embd,
            "intermediate_size": self.parameter_map(model)["gpt_neox.layers.0.mlp.dense_4h_to_h.weight"].shape[1],
            "num_hidden_layers": config.n_layer,
            "num_attention_heads": config.n_head,
            "hidden_act": activation_name(config),
            "layer_norm_eps": config.norm.eps,
            # transformers 5 reads the group, earlier versions the two keys after it
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": config.positions.rope_theta,
                "partial_rotary_factor": config.positions.rope_fraction,
            },
            "rotary_emb_base": config.positions.rope_theta,
            "rotary_pct": config.positions.rope_fraction,
            "use_parallel_residual": False,
            "attention_bias": True,
            "attention_dropout": config.dropout,
            "hidden_dropout": config.dropout,
            "tie_word_embeddings": config.tie_head,
            "dtype": "float32",
        }
