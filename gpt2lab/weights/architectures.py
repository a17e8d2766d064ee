"""What another library calls our settings and our parameters: one class an architecture of Hugging Face.

    config.json -> ``model_config`` -> ModelConfig -> GPT -> ``places``: {their tensor's name: a view of our parameter}
    GPT -> ``config_json`` and ``places``, for the architectures that are also written

A new architecture is a class here and an entry of ``ARCHITECTURES``.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from gpt2lab.config import MLPConfig, ModelConfig, NormConfig, PositionsConfig, UserError
from gpt2lab.model import GPT
from gpt2lab.weights.config_json import ConfigJson
from gpt2lab.weights.places import Place, TensorNames, interleaved_qkv, same, split_qkv, transposed, vocabulary

ACTIVATIONS = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu": "gelu_erf",
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu2",
}
"""the names of ``transformers`` for gpt2lab's MLPs, the first one of each being the one that is written"""


class Modules(NamedTuple):
    """Their modules for one of ours, and the views of its parameters; N is the number of the block."""

    names: Sequence[str]
    views: Callable[[Tensor, ModelConfig], Sequence[Place]] = same


class Architecture(TensorNames):
    """An architecture of ``transformers``."""

    PREFIX: ClassVar[str]
    """of every tensor but the head; files of the headless model go without it"""
    BUFFERS: ClassVar[str]
    """pattern of the ends of the buffers' names"""
    MODULES: ClassVar[Mapping[str, Modules]]
    """by our name"""

    def model_config(self, settings: ConfigJson) -> ModelConfig:
        """Our settings for theirs; ``dropout`` is 0.

        Raises:
            UserError: a setting is missing, malformed, or asks for something that gpt2lab has not.
        """
        settings.require("quantization_config", expected=None)
        try:
            return self._model_config(settings)
        except UserError as error:
            if str(settings.path) in str(error):
                raise
            raise UserError(f"{settings.path}: {error}") from error

    @abstractmethod
    def _model_config(self, settings: ConfigJson) -> ModelConfig: ...

    def places(self, model: GPT) -> dict[str, Place]:
        """See ``TensorNames``."""
        places = {}
        for name, parameter in model.named_parameters():
            module, kind = name.rsplit(".", 1)
            number = module.split(".")[1] if module.startswith("blocks.") else ""
            theirs, views = self.MODULES[module.replace(f"blocks.{number}.", "blocks.N.")]
            for their_module, place in zip(theirs, views(parameter.data, model.config), strict=True):
                places[f"{their_module.replace('.N.', f'.{number}.')}.{kind}"] = place
        return places

    def full_name(self, name: str) -> str:
        """See ``TensorNames``; the marks that torch.compile and DDP leave, ``_orig_mod`` and ``module``, go."""
        name = ".".join(part for part in name.split(".") if part not in ("_orig_mod", "module"))
        return name if name == self.HEAD or name.startswith(self.PREFIX) else self.PREFIX + name

    def is_buffer(self, full_name: str) -> bool:
        """See ``TensorNames``."""
        return re.search(rf"\.({self.BUFFERS})$", full_name) is not None


class Exportable(Architecture):
    """An architecture that gpt2lab also writes."""

    LAYOUT: ClassVar[str]
    """its name in messages"""

    @abstractmethod
    def misfits(self, config: ModelConfig) -> list[str]:
        """The settings, as they are typed, that this architecture has no place for."""

    @abstractmethod
    def config_json(self, model: GPT, eot_id: int) -> dict[str, Any]:
        """The content of config.json."""


class GPT2(Exportable):
    """Radford et al. 2019, as GPT2LMHeadModel has it."""

    LAYOUT = "GPT-2's"
    PREFIX, EMBEDDING, HEAD = "transformer.", "transformer.wte.weight", "lm_head.weight"
    BUFFERS = r"attn\.(bias|masked_bias)"
    MODULES: ClassVar = {
        "wte": Modules(["transformer.wte"], vocabulary),
        "positions.wpe": Modules(["transformer.wpe"]),
        "blocks.N.norm_1": Modules(["transformer.h.N.ln_1"]),
        "blocks.N.attn.c_attn": Modules(["transformer.h.N.attn.c_attn"], transposed),
        "blocks.N.attn.c_proj": Modules(["transformer.h.N.attn.c_proj"], transposed),
        "blocks.N.norm_2": Modules(["transformer.h.N.ln_2"]),
        "blocks.N.mlp.c_fc": Modules(["transformer.h.N.mlp.c_fc"], transposed),
        "blocks.N.mlp.c_proj": Modules(["transformer.h.N.mlp.c_proj"], transposed),
        "norm_f": Modules(["transformer.ln_f"]),
        "lm_head": Modules(["lm_head"], vocabulary),
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

    def misfits(self, config: ModelConfig) -> list[str]:
        """See ``Exportable``."""
        return [
            *_unless(config.positions.name == "learned", f"model/positions={config.positions.name}"),
            *_unless(config.norm.name == "layernorm", f"model/norm={config.norm.name}"),
            *_unless(config.mlp.name in ACTIVATIONS.values(), f"model/mlp={config.mlp.name}"),
            *_unless(config.bias, "model.bias=false"),
            *_unless(config.kv_heads == config.n_head, f"model.n_kv_head={config.n_kv_head}"),
            *_unless(not config.qk_norm, "model.qk_norm=true"),
        ]

    def config_json(self, model: GPT, eot_id: int) -> dict[str, Any]:
        """See ``Exportable``."""
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
            "activation_function": next(name for name, ours in ACTIVATIONS.items() if ours == config.mlp.name),
            "layer_norm_epsilon": config.norm.eps,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
            "tie_word_embeddings": config.tie_head,
            "bos_token_id": eot_id,
            "eos_token_id": eot_id,
            "dtype": "float32",
        }


class GPTNeoX(Architecture):
    """Black et al. 2022, as GPTNeoXForCausalLM has it, with the sequential residual: the reference for rope."""

    PREFIX, EMBEDDING, HEAD = "gpt_neox.", "gpt_neox.embed_in.weight", "embed_out.weight"
    BUFFERS = r"attention\.(bias|masked_bias)|rotary_emb\.inv_freq"
    MODULES: ClassVar = {
        "wte": Modules(["gpt_neox.embed_in"], vocabulary),
        "blocks.N.norm_1": Modules(["gpt_neox.layers.N.input_layernorm"]),
        "blocks.N.attn.c_attn": Modules(["gpt_neox.layers.N.attention.query_key_value"], interleaved_qkv),
        "blocks.N.attn.c_proj": Modules(["gpt_neox.layers.N.attention.dense"]),
        "blocks.N.norm_2": Modules(["gpt_neox.layers.N.post_attention_layernorm"]),
        "blocks.N.mlp.c_fc": Modules(["gpt_neox.layers.N.mlp.dense_h_to_4h"]),
        "blocks.N.mlp.c_proj": Modules(["gpt_neox.layers.N.mlp.dense_4h_to_h"]),
        "norm_f": Modules(["gpt_neox.final_layer_norm"]),
        "lm_head": Modules(["embed_out"], vocabulary),
    }

    def _model_config(self, settings: ConfigJson) -> ModelConfig:
        settings.require("use_parallel_residual", expected=False, absent=True)
        settings.require("attention_bias", expected=True)
        theta, fraction = settings.rope(0.25, ["rotary_emb_base"], ["rotary_pct"])
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


class Llama(Exportable):
    """Touvron et al. 2023, as LlamaForCausalLM has it: rope, rmsnorm, swiglu, no biases."""

    LAYOUT = "Llama's"
    PREFIX, EMBEDDING, HEAD = "model.", "model.embed_tokens.weight", "lm_head.weight"
    BUFFERS = r"rotary_emb\.inv_freq"
    MODULES: ClassVar = {
        "wte": Modules(["model.embed_tokens"], vocabulary),
        "blocks.N.norm_1": Modules(["model.layers.N.input_layernorm"]),
        "blocks.N.attn.c_attn": Modules([f"model.layers.N.self_attn.{part}_proj" for part in "qkv"], split_qkv),
        "blocks.N.attn.c_proj": Modules(["model.layers.N.self_attn.o_proj"]),
        "blocks.N.norm_2": Modules(["model.layers.N.post_attention_layernorm"]),
        "blocks.N.mlp.c_gate": Modules(["model.layers.N.mlp.gate_proj"]),
        "blocks.N.mlp.c_fc": Modules(["model.layers.N.mlp.up_proj"]),
        "blocks.N.mlp.c_proj": Modules(["model.layers.N.mlp.down_proj"]),
        "norm_f": Modules(["model.norm"]),
        "lm_head": Modules(["lm_head"], vocabulary),
    }

    def _model_config(self, settings: ConfigJson) -> ModelConfig:
        settings.require("hidden_act", expected="silu")
        settings.require("attention_bias", expected=False)
        settings.require("mlp_bias", expected=False)
        n_embd, n_head = settings.whole("hidden_size"), settings.whole("num_attention_heads")
        settings.require("head_dim", expected=n_embd // n_head)
        theta, fraction = settings.rope(1.0, [], [])
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

    def misfits(self, config: ModelConfig) -> list[str]:
        """See ``Exportable``."""
        fraction = config.positions.rope_fraction
        return [
            *_unless(config.positions.name == "rope", f"model/positions={config.positions.name}"),
            *_unless(fraction == 1 or config.positions.name != "rope", f"model.positions.rope_fraction={fraction}"),
            *_unless(config.norm.name == "rmsnorm", f"model/norm={config.norm.name}"),
            *_unless(config.mlp.name == "swiglu", f"model/mlp={config.mlp.name}"),
            *_unless(not config.bias, "model.bias=true"),
            *_unless(not config.qk_norm, "model.qk_norm=true"),
        ]

    def config_json(self, model: GPT, eot_id: int) -> dict[str, Any]:
        """See ``Exportable``."""
        config = model.config
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.block_size,
            "hidden_size": config.n_embd,
            "intermediate_size": self.places(model)["model.layers.0.mlp.down_proj.weight"].shape[1],
            "num_hidden_layers": config.n_layer,
            "num_attention_heads": config.n_head,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": config.norm.eps,
            # the first is how transformers 5 spells it, the second is for those before
            "rope_parameters": {"rope_type": "default", "rope_theta": config.positions.rope_theta},
            "rope_theta": config.positions.rope_theta,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": config.tie_head,
            "bos_token_id": eot_id,
            "eos_token_id": eot_id,
            "dtype": "float32",
        }


def _unless(fits: bool, setting: str) -> list[str]:
    return [] if fits else [setting]


ARCHITECTURES: dict[str, Architecture] = {"gpt2": GPT2(), "gpt_neox": GPTNeoX(), "llama": Llama()}
"""by the ``model_type`` of config.json"""
EXPORTABLE = [architecture for architecture in ARCHITECTURES.values() if isinstance(architecture, Exportable)]
