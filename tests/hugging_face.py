"""Models made by transformers, whose weights are all random and large: a term that is left out changes every output."""

import json

import torch
import transformers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

NO_IDS = {"bos_token_id": None, "eos_token_id": None}


def gpt2(*, std=0.2, **settings):
    """GPT-2 of some thousand numbers."""
    shape = {"vocab_size": 31, "n_positions": 12, "n_embd": 16, "n_layer": 2, "n_head": 2}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return _randomised(GPT2LMHeadModel(GPT2Config(**{**shape, **off, **NO_IDS, **settings})), std)


def neox(*, theta=10_000.0, fraction=0.25, **settings):
    """GPT-NeoX with the sequential residual."""
    shape = {"vocab_size": 31, "max_position_embeddings": 12, "hidden_size": 32, "num_hidden_layers": 2}
    more = {"num_attention_heads": 2, "intermediate_size": 40, "use_parallel_residual": False}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": fraction}}
    return _randomised(GPTNeoXForCausalLM(GPTNeoXConfig(**{**shape, **more, **rope, **NO_IDS, **settings})))


def llama(*, theta=10_000.0, **settings):
    """Llama."""
    shape = {"vocab_size": 31, "max_position_embeddings": 12, "hidden_size": 32, "num_hidden_layers": 2}
    more = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    return _randomised(LlamaForCausalLM(LlamaConfig(**{**shape, **more, **rope, **NO_IDS, **settings})))


MAKERS = {"gpt2": gpt2, "neox": neox, "llama": llama}


def _randomised(model, std=0.2):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.normal_(mean=float(is_gain), std=std if parameter.ndim == 2 else std / 2)
    return model.eval()


def change_settings(folder, remove=(), **values):
    """Edit the config.json of a saved model."""
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in settings.items() if key not in remove} | values))
