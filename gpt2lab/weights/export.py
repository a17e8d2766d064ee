"""A model out: GPT -> a directory that ``transformers`` loads as it is.

model -> the architecture that has a place for all its settings -> FOLDER.<id>.tmp/ (config.json,
generation_config.json, model.safetensors, the tokenizer's files) -> rename -> FOLDER/
"""

import json
import secrets
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from gpt2lab.config import ModelConfig, UserError
from gpt2lab.model import GPT
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.tokenizers.tokenizer_json import write_tokenizer
from gpt2lab.weights.architectures import EXPORTABLE, Exportable
from gpt2lab.weights.tensors import SINGLE


def check_free(folder: Path) -> None:
    """Raise ``UserError`` unless a directory can be written at ``folder``: nothing is there, or an empty folder."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        raise UserError(f"out={folder} is there already: name a folder that is yet to be made")


def save_pretrained(model: GPT, tokenizer: Tokenizer, folder: str | Path) -> str:
    """Write ``folder``; return the name of the architecture. Padding rows of the vocabulary are left out.

    Raises:
        UserError: no architecture has a place for all of the model's settings, or ``folder`` is there already.
    """
    architecture = find_architecture(model.config)
    folder = Path(folder).resolve()
    check_free(folder)
    temporary = folder.with_name(f"{folder.name}.{secrets.token_hex(3)}.tmp")
    temporary.mkdir(parents=True)
    try:
        settings = architecture.config_json(model, tokenizer.eot_id)
        generation = {"bos_token_id": tokenizer.eot_id, "eos_token_id": tokenizer.eot_id}
        for name, values in (("config.json", settings), ("generation_config.json", generation)):
            (temporary / name).write_text(json.dumps(values, indent=2) + "\n")
        tensors = {
            name: place.view.detach().cpu().reshape(place.shape).clone(memory_format=torch.contiguous_format)
            for name, place in architecture.places(model).items()
        }
        save_file(tensors, temporary / SINGLE, metadata={"format": "pt"})
        write_tokenizer(tokenizer.name, temporary, model.config.block_size)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return str(settings["architectures"][0])


def find_architecture(config: ModelConfig) -> Exportable:
    """The architecture that has a place for every setting.

    Raises:
        UserError: none has; the settings in the way are named.
    """
    misfits = {architecture.LAYOUT: architecture.misfits(config) for architecture in EXPORTABLE}
    for architecture in EXPORTABLE:
        if not misfits[architecture.LAYOUT]:
            return architecture
    reasons = "; ".join(f"{layout} has no place for {', '.join(settings)}" for layout, settings in misfits.items())
    raise UserError(f"no architecture of transformers that gpt2lab writes is this model: {reasons}")
