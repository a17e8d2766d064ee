"""Writes a model as a directory that ``transformers`` loads.

model -> the architecture that has all its settings -> FOLDER/ (config.json, generation_config.json, model.safetensors,
the tokenizer's files, README.md)
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save_file

from gpt2lab.config import ModelConfig, UserError
from gpt2lab.files import apply_umask
from gpt2lab.model import GPT
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.weights.architectures import ARCHITECTURES, Architecture
from gpt2lab.weights.new_folder import check_ids, new_folder, write_tokenizer, write_transformers_json
from gpt2lab.weights.safetensors_files import SINGLE


def save_pretrained(
    model: GPT,
    tokenizer: Tokenizer,
    folder: str | Path,
    card: str | None = None,
    trained_with: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Write ``folder``; return what opens it. Padding rows of the vocabulary are left out.

    Args:
        model: its weights.
        tokenizer: that its ids are of.
        folder: a new one.
        card: the text of README.md; None: no such file.
        trained_with: further keys of config.json, ``StoredModel.trained_with()``.

    Raises:
        UserError: no architecture has all of the model's settings, or ``folder`` already exists.
    """
    check_ids(model, tokenizer)
    architecture = find_architecture(model.config)
    special = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eot_id}
    settings = {**architecture.config_json(model), **special, **trained_with}
    with new_folder(folder, model, card) as temporary:
        write_transformers_json(temporary / "config.json", settings)
        write_transformers_json(temporary / "generation_config.json", special)
        tensors = {
            name: mapped.view.detach().cpu().reshape(mapped.shape).clone(memory_format=torch.contiguous_format)
            for name, mapped in architecture.parameter_map(model).items()
        }
        save_file(tensors, temporary / SINGLE, metadata={"format": "pt"})
        apply_umask(temporary / SINGLE)
        write_tokenizer(tokenizer, temporary, model.config.block_size)
    return f"{settings['architectures'][0]}.from_pretrained({str(folder)!r})"


def find_architecture(config: ModelConfig) -> Architecture:
    """Return the architecture that has every setting of ``config``.

    Raises:
        UserError: none has; for each, the settings that it lacks are named.
    """
    unsupported = {architecture.NAME: architecture.unsupported(config) for architecture in ARCHITECTURES.values()}
    for architecture in ARCHITECTURES.values():
        if not unsupported[architecture.NAME]:
            return architecture
    reasons = "; ".join(f"{name} does not have {', '.join(settings)}" for name, settings in unsupported.items())
    raise UserError(f"no architecture of transformers that gpt2lab writes has all the model's settings: {reasons}")
