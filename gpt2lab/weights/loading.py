"""Weights from the disk into models.

what a user types -> ``find_stored_model`` -> ``open_model``: a model for text, with its tokenizer
                                           -> ``load_pretrained``: a model
                                           -> ``load_weights``: into an existing model
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt2lab.config import ModelConfig, UserError, to_dict
from gpt2lab.model import GPT, shapes_only
from gpt2lab.model.init import allocate
from gpt2lab.runs import warn_of_other_code
from gpt2lab.runtime import explaining_out_of_memory
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.weights.safetensors_files import StoredTensor, check_tensors, copy_tensors, open_tensors
from gpt2lab.weights.stored_model import StoredModel, find_stored_model

CPU = torch.device("cpu")


@dataclass(frozen=True)
class LoadedModel:
    """A model, in evaluation mode, and where it came from."""

    model: GPT
    tokenizer: Tokenizer
    source: StoredModel


def open_model(where: str | None, device: torch.device, key: str = "checkpoint") -> LoadedModel:
    """Return the model that ``key=where`` names, with its tokenizer; embedding rows beyond its ids are cut off.

    Raises:
        UserError: there is none, it is damaged, or gpt2lab does not have its architecture or its tokenizer.
    """
    source = find_stored_model(where, key)
    tokenizer = source.tokenizer()
    config = dataclasses.replace(source.config, vocab_size=tokenizer.vocab_size)
    return LoadedModel(_read_model(source, config, device), tokenizer, source)


def load_pretrained(
    where: str | Path,
    *,
    block_size: int | None = None,
    vocab_size: int | None = None,
    vocab_multiple_of: int = 1,
    device: torch.device = CPU,
) -> GPT:
    """Return a model with its weights in float32, in evaluation mode.

    Args:
        where: gpt2, gpt2-medium, gpt2-large, gpt2-xl or ORG/NAME on the Hugging Face Hub, each with @REVISION or
            without; a Hugging Face directory (GPT-2, GPT-NeoX with the sequential residual, Llama); a .safetensors file
            with config.json beside it; a run or checkpoint of gpt2lab.
        block_size: longest sequence, in tokens; None: as stored. Learned positions are cut to it.
        vocab_size: token ids to keep, the first ones; None: all. For embeddings with more rows than there are ids.
        vocab_multiple_of: the embedding gets rows of zeros up to a multiple of this.
        device: where the weights go.

    Raises:
        UserError: nothing there, damaged, malformed, no model that gpt2lab has, or fewer positions or ids than asked.
    """
    changes: dict[str, Any] = {
        "block_size": block_size,
        "vocab_size": vocab_size,
        "vocab_multiple_of": vocab_multiple_of,
    }
    source = find_stored_model(str(where), "checkpoint")
    given = {key: value for key, value in changes.items() if value is not None}
    return _read_model(source, dataclasses.replace(source.config, **given), device)


def load_weights(model: GPT, where: str) -> StoredModel:
    """Copy the weights that ``init_from=where`` names, and nothing else, into ``model``.

    Raises:
        UserError: nothing there, damaged, or of another architecture (the differing keys are named).
    """
    source = find_stored_model(where, "init_from")
    wanted = model.config
    stored = dataclasses.replace(source.config, vocab_size=source.vocab_size)
    if stored.positions.name != "learned" or wanted.block_size < stored.block_size:
        stored = dataclasses.replace(stored, block_size=wanted.block_size)
    require_same_model(stored, wanted, source.folder, free=("dropout", "vocab_multiple_of"))
    copy_tensors(_checked_tensors(source), model, source.format.parameter_map(model))
    warn_of_other_code(source.results, to_dict(wanted))
    return source


def require_same_model(
    stored: ModelConfig, wanted: ModelConfig, where: Path, free: tuple[str, ...], hint: str = ""
) -> None:
    """Raise ``UserError`` naming the keys, but the ``free`` ones, in which two architectures differ; ``hint`` ends
    it."""
    theirs, ours = (_flat(config) for config in (stored, wanted))
    differing = [
        f"model.{key}={ours[key]} (the checkpoint has {theirs[key]})"
        for key in ours
        if key not in free and ours[key] != theirs[key]
    ]
    if differing:
        raise UserError(f"{where} is of another architecture: {', '.join(differing)}{hint}")


def _read_model(source: StoredModel, config: ModelConfig, device: torch.device) -> GPT:
    stored = source.config
    if config.positions.name == "learned" and config.block_size > stored.block_size:
        raise UserError(
            f"block_size={config.block_size}: {source.folder} has {stored.block_size} learned positions, "
            "expected no more"
        )
    if config.vocab_size > stored.vocab_size:
        raise UserError(
            f"vocab_size={config.vocab_size}: {source.folder} has {stored.vocab_size} token ids, expected no more"
        )
    tensors = _checked_tensors(source)
    with shapes_only():
        model = GPT(config)
    advice = "expected a smaller model or a device with more memory; try runtime.device=cpu"
    with explaining_out_of_memory(f"the weights of {model.num_parameters():,} parameters", advice):
        allocate(model, device)
    copy_tensors(tensors, model, source.format.parameter_map(model))
    warn_of_other_code(source.results, to_dict(config))
    return model.eval()


def _checked_tensors(source: StoredModel) -> dict[str, StoredTensor]:
    """The stored tensors by full name, checked against the settings; no more than two are in memory at a time."""
    layout = source.format
    where = source.files[0] if len(source.files) == 1 else source.folder
    tensors = open_tensors(source.files, layout)
    if source.config.n_layer > len(tensors):  # before a model of a billion layers is built
        raise UserError(
            f"{where}: has {len(tensors)} tensors, but its settings say {source.config.n_layer} layers: expected the "
            "file that belongs to the settings"
        )
    if source.config.tie_head and layout.HEAD in tensors:
        # one matrix under two names: some files have it twice, some under either name
        head = tensors.pop(layout.HEAD)
        embedding = tensors.setdefault(layout.EMBEDDING, head)
        if head.shape != embedding.shape or not torch.equal(head.read().float(), embedding.read().float()):
            raise UserError(
                f"{head.path}: tensor {head.name} differs from {embedding.name}, but the settings say that the head is "
                'tied to the embedding: type "tie_word_embeddings": false in config.json if it is not'
            )
    padded = dataclasses.replace(source.config, vocab_size=source.config.padded_vocab_size)
    with shapes_only():
        check_tensors(tensors, layout.parameter_map(GPT(padded)), where)
    return tensors


def _flat(config: ModelConfig) -> dict[str, Any]:
    """A config under dotted keys, each null replaced by its meaning."""
    with shapes_only():
        one_block = dict(GPT(dataclasses.replace(config, n_layer=1)).named_parameters())
    values = to_dict(config) | {"n_kv_head": config.kv_heads}
    projection = one_block.get("blocks.0.mlp.c_proj.weight")
    if projection is not None:  # a user's own MLP may have none
        values["mlp"]["hidden_dim"] = projection.shape[1]
    groups = {key: value for key, value in values.items() if isinstance(value, dict)}
    return {key: value for key, value in values.items() if key not in groups} | {
        f"{group}.{key}": value for group, settings in groups.items() for key, value in settings.items()
    }
