"""Writes a model as a directory that ``transformers`` loads.

model -> the architecture that has all its settings -> FOLDER.<id>.tmp/ (config.json, generation_config.json,
model.safetensors, the tokenizer's files, README.md) -> rename -> FOLDER/
"""

import json
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from gpt2lab.config import ModelConfig, UserError
from gpt2lab.files import apply_umask, check_writable, not_written
from gpt2lab.model import GPT
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.weights.architectures import ARCHITECTURES, Architecture
from gpt2lab.weights.safetensors_files import SINGLE

TOKENIZER_CONFIG = "tokenizer_config.json"
README = "README.md"


def check_free(folder: Path) -> None:
    """Raise ``UserError`` unless a directory can be written at ``folder``: nothing is there, or an empty folder."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        raise UserError(f"out={folder} is there already: name a folder that is yet to be made")
    check_writable(folder, "out")


def save_pretrained(model: GPT, tokenizer: Tokenizer, folder: str | Path, card: str | None = None) -> str:
    """Write ``folder``; return the name of the architecture. Padding rows of the vocabulary are left out.

    Args:
        model: its weights.
        tokenizer: that its ids are of.
        folder: a new one.
        card: the text of README.md; None: no such file.

    Raises:
        UserError: no architecture has all of the model's settings, or ``folder`` is there already.
    """
    architecture = find_architecture(model.config)
    folder = Path(folder).resolve()
    check_free(folder)
    temporary = folder.with_name(f"{folder.name}.{secrets.token_hex(3)}.tmp")
    try:
        temporary.mkdir(parents=True)
        special = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eot_id}
        settings = architecture.config_json(model) | special
        _write_json(temporary / "config.json", settings)
        _write_json(temporary / "generation_config.json", special)
        tensors = {
            name: mapped.view.detach().cpu().reshape(mapped.shape).clone(memory_format=torch.contiguous_format)
            for name, mapped in architecture.parameter_map(model).items()
        }
        save_file(tensors, temporary / SINGLE, metadata={"format": "pt"})
        apply_umask(temporary / SINGLE)
        write_tokenizer(tokenizer, temporary, model.config.block_size)
        if card is not None:
            (temporary / README).write_text(card, encoding="utf-8")
        temporary.rename(folder)
    except (OSError, SafetensorError) as error:
        needed = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        raise not_written(folder, needed, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # after the rename there is none
    return str(settings["architectures"][0])


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


def write_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write the files from which ``AutoTokenizer`` makes ``tokenizer``, for a model of ``context`` positions."""
    for name, content in tokenizer.hugging_face_files().items():
        if name == TOKENIZER_CONFIG:
            _write_json(folder / name, json.loads(content) | {"model_max_length": context})
        else:
            (folder / name).write_text(content, encoding="utf-8", newline="")


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
