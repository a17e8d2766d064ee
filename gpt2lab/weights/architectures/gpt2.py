"""GPT-2 as ``transformers`` has it."""

from typing import Any, ClassVar

from gpt2lab.config import MLPConfig, ModelConfig, NormConfig
from gpt2lab.model import GPT
from gpt2lab.weights.architectures.base import ACTIVATIONS, Architecture, Modules, activation_name, unless
from gpt2lab.weights.config_json import ConfigJson
from gpt2lab.weights.parameter_map import transposed, vocabulary_rows


class GPT2(Architecture):
    """Radford et al. 2019, as GPT2LMHeadModel has it."""

    NAME = "GPT-2"
    PREFIX, EMBEDDING, HEAD = "transformer.", "transformer.wte.weight", "lm_head.weight"
    BUFFERS = r"attn\.(bias|masked_bias)"
    MODULES: ClassVar = {
        "wte": Modules(["transformer.wte"], vocabulary_rows),
        "positions.wpe": Modules(["transformer.wpe"]),
        "blocks.N.norm_1": Modules(["transformer.h.N.ln_1"]),
        "blocks.N.attn.c_attn": Modules(["transformer.h.N.attn.c_attn"], transposed),
        "blocks.N.attn.c_proj": Modules(["transformer.h.N.attn.c_proj"], transposed),
        "blocks.N.norm_2": Modules(["transformer.h.N.ln_2"]),
        "blocks.N.mlp.c_fc": Modules(["transformer.h.N.mlp.c_fc"], transposed),
        "blocks.N.mlp.c_proj": Modules(["transformer.h.N.mlp.c_proj"], transposed),
        "norm_f": Modules(["transformer.ln_f"]),
        "lm_head": Modules(["lm_head"], vocabulary_rows),
    }

    def _model_config(self, settings: ConfigJson) -> ModelConfig:
        settings.require("scale_attn_weights", expected=True)
        settings.require("scale_attn_by_inverse_layer_idx", expected=False)
        settings.require("add_cross_attention", expected=False)
        return ModelConfig(
            n_layer=settings.whole("n_layer", "num_hidden_layers"),
            n_head=settings.whole("n_head", "num_attention_heads"),
            n_embd=settings.whole("n_embd", "hidden_size"),
            block_size=settings.whole("n_positions", "n_ctx", "max_position_embeddings"),
            vocab_size=settings.whole("vocab_size"),
            tie_head=settings.switch("tie_word_embeddings", default=True),
            norm=NormConfig("layernorm", settings.number("layer_norm_epsilon", 1e-5)),
            mlp=MLPConfig(
                settings.choice("activation_function", ACTIVATIONS, "gelu_new"), settings.whole_or_none("n_inner")
            ),
        )

    def unsupported(self, config: ModelConfig) -> list[str]:
        """See ``Architecture``."""
        return [
            *unless(config.positions.name == "learned", f"model/positions={config.positions.name}"),
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
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": config.vocab_size,
            "n_positions": config.block_size,
            "n_embd": config.n_embd,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_inner": config.mlp.hidden_dim,
            "activation_function": activation_name(config),
            "layer_norm_epsilon": config.norm.eps,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
            "tie_word_embeddings": config.tie_head,
            "dtype": "float32",
        }
