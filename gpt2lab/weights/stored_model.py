"""A model on the disk, by what a user types; its settings are read, its weights are not.

null | run | checkpoint | Hugging Face directory | .safetensors file | name on the Hub -> ``StoredModel``
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2lab.checkpoint import MANIFEST, follow_link, runs_with_checkpoint, verify_checkpoint
from gpt2lab.config import DataConfig, ModelConfig, TokenizerConfig, TrainJob, UserError, did_you_mean, from_dict
from gpt2lab.runs.layout import RUNS
from gpt2lab.tokenizers import Tokenizer, load_tokenizer
from gpt2lab.weights.architectures import ARCHITECTURES
from gpt2lab.weights.checkpoint_format import WEIGHTS, CheckpointFormat, find_checkpoint, is_run_or_checkpoint
from gpt2lab.weights.config_json import CONFIG_JSON, ConfigJson
from gpt2lab.weights.directory_tokenizer import MAX_PADDING_ROWS, find_directory_tokenizer
from gpt2lab.weights.hub import SHORT_NAMES, fetch_model, is_hub_name
from gpt2lab.weights.parameter_map import TensorFormat
from gpt2lab.weights.safetensors_files import UNPICKLING, find_weights

SEQUENCE_LENGTH, DOCUMENT_MASKING = "gpt2lab_sequence_length", "gpt2lab_document_masking"
"""Keys of an exported config.json: tokens of a training sequence, where they are fewer than the model's positions, and
whether no token attended to another document."""


@dataclass(frozen=True)
class TrainedOn:
    """The prepared dataset that a model was trained on."""

    data: DataConfig
    fingerprint: str


@dataclass(frozen=True)
class StoredModel:
    """A model on the disk: all that is known of it but its weights."""

    origin: dict[str, str | int]
    """for records: checkpoint, and step or revision"""
    folder: Path
    config: ModelConfig
    """as stored"""
    format: TensorFormat
    """of ``files``"""
    files: list[Path]
    tokenizer_config: TokenizerConfig | None
    """None: the files name no tokenizer"""
    vocab_size: int
    """ids of its tokenizer; further rows of the embedding are padding"""
    context: int
    """sequence length that it was trained on, in tokens"""
    results: Path
    """folder for the results of its evaluation"""
    trained_on: TrainedOn | None = None
    """None: unknown"""
    document_masking: bool = False
    """whether no token of its training attended to another document"""

    def trained_with(self) -> dict[str, Any]:
        """Return what an exported file says of its training, by key: without it the model would be scored otherwise."""
        shorter = {SEQUENCE_LENGTH: self.context} if self.context != self.config.block_size else {}
        return shorter | ({DOCUMENT_MASKING: True} if self.document_masking else {})

    def describe(self) -> str:
        """Return its origin in one line."""
        return ", ".join(f"{key} {value}" for key, value in self.origin.items()).removeprefix("checkpoint ")

    def tokenizer(self) -> Tokenizer:
        """Return its tokenizer.

        Raises:
            UserError: it has none, or one with other ids than the model.
        """
        rows = self.config.vocab_size
        if self.tokenizer_config is None:
            raise UserError(
                f"{self.folder}: there is no tokenizer for its {rows} token ids: expected tokenizer.json there; "
                "transformers writes it: AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)"
            )
        ids = self.tokenizer_config.vocab_size
        if not 0 <= rows - ids <= MAX_PADDING_ROWS:
            raise UserError(
                f"{self.folder}: its tokenizer has {ids} ids, its embedding {rows} rows: expected as many, or up to "
                f"{MAX_PADDING_ROWS} rows of padding: put the model's own tokenizer.json there"
            )
        return load_tokenizer(self.tokenizer_config, self.folder)

    def has_ids_of(self, tokenizer: Tokenizer) -> bool:
        """Return whether its ids are those of ``tokenizer``."""
        return self.tokenizer_config is not None and self.tokenizer().fingerprint == tokenizer.fingerprint


def find_stored_model(where: str | None, key: str) -> StoredModel:
    """Return the model that ``key=where`` names; an existing path takes precedence over a name on the Hub.

    Raises:
        UserError: there is none, or it is not a model that gpt2lab has.
    """
    path = follow_link(Path(where)) if where else None
    if path is None or is_run_or_checkpoint(path):
        return _from_checkpoint(find_checkpoint(where, key))
    if path.is_dir():
        if not (path / CONFIG_JSON).is_file():
            within = sorted(map(str, runs_with_checkpoint(path)))
            raise UserError(
                f"{key}={where}: expected {MANIFEST} (a checkpoint), checkpoints/step_* (a run) or {CONFIG_JSON} "
                f"(a Hugging Face directory), found none of them{f'; try {key}={within[-1]}' if within else ''}"
            )
        return _from_directory(path, find_weights(path), {"checkpoint": str(path.resolve())})
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UserError(
                f"{key}={where}: expected a folder or a .safetensors file; if this is a pickle, {UNPICKLING}"
            )
        if is_run_or_checkpoint(path.parent):
            return _from_checkpoint(find_checkpoint(str(path.parent), key))
        return _from_directory(path.parent, [path], {"checkpoint": str(path.resolve())})
    if is_hub_name(str(where)):
        try:
            folder, origin = fetch_model(str(where), key)
        except UserError as error:
            if "/" not in str(where):  # gpt2, which is not the name of a folder
                raise
            raise UserError(f"{error}; there is no folder {where} either{_run_meant(str(where))}") from error
        return _from_directory(folder, find_weights(folder), origin)
    raise UserError(
        f"{key}={where}: no such folder; expected a run, a checkpoint, a Hugging Face directory, or a name on the "
        f"Hugging Face Hub ({', '.join(SHORT_NAMES)}, ORG/NAME){_run_meant(str(where))}"
    )


def _run_meant(where: str) -> str:
    """The end of an error line: a run in ``runs/`` of this name, else a run or model of a similar one, or nothing."""
    runs = list(runs_with_checkpoint(Path(RUNS)))
    of_this_name = [run for run in runs if run.name == Path(where).name]
    return (
        f"; did you mean {of_this_name[0]}?" if of_this_name else did_you_mean(where, [*map(str, runs), *SHORT_NAMES])
    )


def _from_checkpoint(folder: Path) -> StoredModel:
    manifest = verify_checkpoint(folder)
    job = from_dict(TrainJob, manifest["config"])
    return StoredModel(
        origin={"checkpoint": str(folder), "step": manifest["step"]},
        folder=folder,
        config=job.model,
        format=CheckpointFormat(),
        files=[folder / WEIGHTS],
        tokenizer_config=job.tokenizer,
        vocab_size=job.model.vocab_size,
        context=job.sequence_length,
        results=folder.parent.parent,
        trained_on=TrainedOn(job.data, manifest["data_fingerprint"]),
        document_masking=job.data.document_masking,
    )


def _from_directory(folder: Path, files: list[Path], origin: dict[str, str]) -> StoredModel:
    settings = ConfigJson(folder / CONFIG_JSON)
    architecture = settings.choice("model_type", ARCHITECTURES, "none")
    config = architecture.model_config(settings)
    tokenizer_config = find_directory_tokenizer(folder, config.vocab_size)
    ids = tokenizer_config.vocab_size if tokenizer_config is not None else config.vocab_size
    return StoredModel(
        origin={**origin},
        folder=folder,
        config=config,
        format=architecture,
        files=files,
        tokenizer_config=tokenizer_config,
        vocab_size=ids if 0 <= config.vocab_size - ids <= MAX_PADDING_ROWS else config.vocab_size,
        context=min(settings.whole_or_none(SEQUENCE_LENGTH) or config.block_size, config.block_size),
        results=Path(),
        document_masking=settings.switch(DOCUMENT_MASKING, default=False),
    )
