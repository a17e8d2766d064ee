"""Models by what a user types, and their weights.

null | run | checkpoint | Hugging Face directory | .safetensors file | name on the Hub
-> ``find_source`` -> ``Source`` (settings read, weights not) -> ``read_model`` -> a model of its own
                                                              -> ``load_weights`` -> into a model that is there
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt2lab.checkpoint import MANIFEST, verify_checkpoint
from gpt2lab.config import DataConfig, ModelConfig, TrainJob, UserError, from_dict, to_dict
from gpt2lab.model import GPT
from gpt2lab.tokenizers import TOKENIZERS, Tokenizer, load_tokenizer
from gpt2lab.tokenizers.tokenizer_json import recognise_tokenizer
from gpt2lab.weights.architectures import ARCHITECTURES
from gpt2lab.weights.config_json import CONFIG_JSON, ConfigJson
from gpt2lab.weights.hub import fetch_model, is_hub_name
from gpt2lab.weights.native import WEIGHTS, OwnNames, find_checkpoint, is_own
from gpt2lab.weights.places import TensorNames
from gpt2lab.weights.tensors import UNPICKLING, StoredTensor, check_tensors, copy_tensors, find_weights, open_tensors

CPU = torch.device("cpu")


@dataclass(frozen=True)
class TrainedOn:
    """The prepared set that a model was trained on."""

    data: DataConfig
    fingerprint: str


@dataclass(frozen=True)
class Source:
    """A model on the disk: all that is known of it but its weights."""

    origin: dict[str, str | int]
    """what a record says of where it came from: checkpoint, and step or revision"""
    folder: Path
    config: ModelConfig
    """as stored"""
    names: TensorNames
    """of the tensors in its files"""
    files: list[Path]
    tokenizer_name: str | None
    """None: of none that gpt2lab has"""
    vocab_size: int
    """ids of its tokenizer; further rows of the embedding are nobody's"""
    context: int
    """tokens at once that it was trained on"""
    results: Path
    """folder where its figures go"""
    trained_on: TrainedOn | None = None
    """None: not said"""

    def describe(self) -> str:
        """Its origin in a line."""
        return ", ".join(f"{key} {value}" for key, value in self.origin.items()).removeprefix("checkpoint ")

    def tokenizer(self) -> Tokenizer:
        """Its tokenizer; a ``UserError`` if gpt2lab has not got it."""
        if self.tokenizer_name is None:
            raise UserError(
                f"{self.folder}: its {self.config.vocab_size} token ids are of no tokenizer that gpt2lab has "
                f"({', '.join(TOKENIZERS)}), so there is no text for it; if they are GPT-2's, put its vocab.json there"
            )
        return load_tokenizer(self.tokenizer_name)


@dataclass(frozen=True)
class OpenModel:
    """A model, in evaluation mode, and where it came from."""

    model: GPT
    source: Source
    tokenizer: Tokenizer


def open_model(where: str | None, device: torch.device) -> OpenModel:
    """The model that ``checkpoint=where`` names, to be used on text: ids beyond its tokenizer's are cut off.

    Raises:
        UserError: there is none, it is damaged, gpt2lab has not got its architecture or its tokenizer.
    """
    source = find_source(where, "checkpoint")
    tokenizer = source.tokenizer()
    return OpenModel(
        _read_model(source, dataclasses.replace(source.config, vocab_size=source.vocab_size), device), source, tokenizer
    )


def load_pretrained(
    where: str | Path,
    *,
    block_size: int | None = None,
    vocab_size: int | None = None,
    vocab_multiple_of: int = 1,
    device: torch.device = CPU,
) -> GPT:
    """A model with its weights in float32, in evaluation mode.

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
    source = find_source(str(where), "checkpoint")
    given = {key: value for key, value in changes.items() if value is not None}
    return _read_model(source, dataclasses.replace(source.config, **given), device)


def load_weights(model: GPT, where: str) -> Source:
    """Copy the weights that ``init_from=where`` names, and nothing else, into ``model``.

    Raises:
        UserError: nothing there, damaged, or of another architecture (the differing keys are named).
    """
    source = find_source(where, "init_from")
    wanted = model.config
    stored = dataclasses.replace(source.config, vocab_size=source.vocab_size)
    if stored.positions.name != "learned" or wanted.block_size < stored.block_size:
        stored = dataclasses.replace(stored, block_size=wanted.block_size)
    require_same_model(stored, wanted, source.folder, free=("dropout", "vocab_multiple_of"))
    copy_tensors(_checked_tensors(source), model, source.names.places(model))
    return source


def find_source(where: str | None, key: str) -> Source:
    """Look up what ``key=where`` names; a path that is there goes before a name on the Hub.

    Raises:
        UserError: there is nothing, or it is no model that gpt2lab has.
    """
    path = Path(where) if where else None
    if path is None or is_own(path):
        return _own_source(find_checkpoint(where, key))
    if path.is_dir():
        if not (path / CONFIG_JSON).is_file():
            raise UserError(
                f"{path}: expected {MANIFEST} (a checkpoint), checkpoints/last (a run) or {CONFIG_JSON} "
                "(a Hugging Face directory), found none of them"
            )
        return _hugging_face_source(path, find_weights(path), {"checkpoint": str(path.resolve())})
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UserError(
                f"{key}={where}: expected a folder or a .safetensors file; if this is a pickle, {UNPICKLING}"
            )
        if is_own(path.parent):
            return _own_source(find_checkpoint(str(path.parent), key))
        return _hugging_face_source(path.parent, [path], {"checkpoint": str(path.resolve())})
    if is_hub_name(str(where)):
        folder, origin = fetch_model(str(where), key)
        return _hugging_face_source(folder, find_weights(folder), origin)
    raise UserError(
        f"{key}={where}: no such folder; expected a run, a checkpoint, a Hugging Face directory, or a name on the "
        "Hugging Face Hub (gpt2, gpt2-medium, gpt2-large, gpt2-xl, ORG/NAME)"
    )


def require_same_model(stored: ModelConfig, wanted: ModelConfig, where: Path, free: tuple[str, ...]) -> None:
    """Raise ``UserError`` naming the keys, but the ``free`` ones, in which two architectures differ."""
    theirs, ours = (_flat(config) for config in (stored, wanted))
    differing = [
        f"model.{key}={ours[key]} (the checkpoint has {theirs[key]})"
        for key in ours
        if key not in free and ours[key] != theirs[key]
    ]
    if differing:
        raise UserError(f"{where} is of another architecture: {', '.join(differing)}")


def _own_source(folder: Path) -> Source:
    manifest = verify_checkpoint(folder)
    job = from_dict(TrainJob, manifest["config"])
    return Source(
        origin={"checkpoint": str(folder), "step": manifest["step"]},
        folder=folder,
        config=job.model,
        names=OwnNames(),
        files=[folder / WEIGHTS],
        tokenizer_name=job.tokenizer.name,
        vocab_size=job.model.vocab_size,
        context=job.sequence_length,
        results=folder.parent.parent,
        trained_on=TrainedOn(job.data, manifest["data_fingerprint"]),
    )


def _hugging_face_source(folder: Path, files: list[Path], origin: dict[str, str]) -> Source:
    settings = ConfigJson(folder / CONFIG_JSON)
    architecture = settings.choice("model_type", ARCHITECTURES, "none")
    config = architecture.model_config(settings)
    tokenizer_name, vocab_size = recognise_tokenizer(folder, config.vocab_size)
    return Source(
        origin={**origin},
        folder=folder,
        config=config,
        names=architecture,
        files=files,
        tokenizer_name=tokenizer_name,
        vocab_size=vocab_size,
        context=config.block_size,
        results=Path(),
    )


def _read_model(source: Source, config: ModelConfig, device: torch.device) -> GPT:
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
    with torch.device("meta"):
        model = GPT(config)
    model.to_empty(device=device)
    copy_tensors(tensors, model, source.names.places(model))
    return model.eval()


def _checked_tensors(source: Source) -> dict[str, StoredTensor]:
    """The tensors of a source, by their full names, after all checks that need no more memory than two of them."""
    names, where = source.names, source.files[0] if len(source.files) == 1 else source.folder
    tensors = open_tensors(source.files, names)
    if source.config.tie_head and names.HEAD in tensors:
        # one matrix under two names: some files have it twice, some under either name
        head = tensors.pop(names.HEAD)
        embedding = tensors.setdefault(names.EMBEDDING, head)
        if head.shape != embedding.shape or not torch.equal(head.read().float(), embedding.read().float()):
            raise UserError(
                f"{head.path}: tensor {head.name} differs from {embedding.name}, but the settings say that the head is "
                'tied to the embedding: type "tie_word_embeddings": false in config.json if it is not'
            )
    padded = dataclasses.replace(source.config, vocab_size=source.config.padded_vocab_size)
    with torch.device("meta"):
        check_tensors(tensors, names.places(GPT(padded)), where)
    return tensors


def _flat(config: ModelConfig) -> dict[str, Any]:
    """A config under dotted keys, null replaced by the number that it stands for."""
    with torch.device("meta"):
        one_block = dict(GPT(dataclasses.replace(config, n_layer=1)).named_parameters())
    values = to_dict(config) | {"n_kv_head": config.kv_heads}
    values["mlp"]["hidden_dim"] = one_block["blocks.0.mlp.c_proj.weight"].shape[1]
    groups = {key: value for key, value in values.items() if isinstance(value, dict)}
    return {key: value for key, value in values.items() if key not in groups} | {
        f"{group}.{key}": value for group, settings in groups.items() for key, value in settings.items()
    }
