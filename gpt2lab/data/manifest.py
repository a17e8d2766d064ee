"""The manifest of a prepared dataset: manifest.json as dataclasses, checked for consistency and against the files.

``docs/data_format.md`` describes the files for readers in other languages. ``write_manifest`` is the last step of
preparing; ``load_manifest`` refuses an incomplete dataset, ``verify`` also one whose files have changed.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import UserError
from gpt2lab.files import file_sha256, parse_json, write_synced
from gpt2lab.shell import command_line

FORMAT = "gpt2lab token shards"
VERSION = 3
SPLITS = ("train", "val")
STARTS_DTYPE = np.dtype("<i8")
END_OF_TEXT_RULE = "before each document"
SPLIT_RULE = "val if the first 8 bytes of SHA-256(document in UTF-8), big-endian, are below val_fraction * 2**64"
OWN_FILE = re.compile(r"manifest\.json|tokenizer\w*\.json|(train|val)_\d+(\.starts)?\.npy")
HOW_TO_FIX = "prepare it again with prepare.overwrite=true"


class TextTokenizer(Protocol):
    """What preparing needs of a tokenizer."""

    name: str
    """also the folder of the prepared dataset below ``<root>/<name>/``"""
    vocab_size: int
    eot_id: int
    fingerprint: str

    @property
    def overrides(self) -> tuple[str, ...]:
        """What selects it on a command line, for example ``tokenizer=gpt2``."""

    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """Token ids of a text that has a UTF-8 form, none of them ``eot_id``."""


class TrainedTokenizer(TextTokenizer, Protocol):
    """A tokenizer that was trained on a text, and is saved with it."""

    @property
    def files(self) -> Mapping[str, str]:
        """Name and content of the files that it is loaded from; equal for equal training text."""


@runtime_checkable
class TrainableTokenizer(Protocol):
    """A tokenizer that is yet to be trained on the training split of the dataset that it is to encode."""

    name: str
    """of the tokenizer that ``train`` returns; it holds all settings, for example ``bpe_4096``"""
    overrides: tuple[str, ...]
    """what selects it on a command line, for example ``tokenizer=bpe`` and ``tokenizer.vocab_size=4096``"""

    def train(self, documents: Iterator[str]) -> TrainedTokenizer:
        """A tokenizer trained on the documents, the same for the same documents.

        Raises:
            UserError: the text is too small for the vocabulary.
        """


@dataclass(frozen=True)
class Shard:
    """One file of tokens and, beside it, the offsets in it at which documents begin."""

    file: str
    tokens: int
    sha256: str
    starts_file: str
    documents: int
    starts_sha256: str


@dataclass(frozen=True)
class Split:
    """The shards of one split, and its totals."""

    tokens: int
    documents: int
    bytes: int
    """of the documents' text in UTF-8; end-of-text counts 0"""
    unigram_entropy: float
    """nats per token, of this split's own token frequencies, end-of-text included"""
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``; equal input gives an equal manifest."""

    format: str
    version: int
    tokenizer: str
    vocab_size: int
    eot_id: int
    tokenizer_fingerprint: str
    end_of_text_rule: str
    split_rule: str
    val_fraction: float | None
    """share of the documents, in ``split_rule``; None where the source divides its text itself"""
    dtype: str
    source: dict[str, Any]
    skipped: dict[str, int]
    """reason -> documents of the source that are not in the dataset"""
    splits: dict[str, Split]
    fingerprint: str
    """SHA-256 over the tokenizer's fingerprint and the shards' hashes, in order"""
    deduplicate: bool = False
    """whether copies of a document were left out; version 1 has no such key"""
    tokenizer_files: dict[str, str] = field(default_factory=dict)
    """name -> SHA-256 of the files of a tokenizer trained on this text; versions 1 and 2 have no such key"""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest little-endian dtype for ids below ``vocab_size``: uint16 or uint32."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def entropy(frequencies: NDArray[np.float64]) -> float:
    """Entropy of a distribution in nats."""
    seen = frequencies[frequencies > 0]
    return float(-(seen * np.log(seen)).sum())


def dataset_fingerprint(tokenizer_fingerprint: str, splits: dict[str, Split]) -> str:
    """SHA-256 that identifies the tokens of a prepared dataset."""
    hashes = [shard.sha256 for name in SPLITS for shard in splits[name].shards]
    return hashlib.sha256(" ".join([tokenizer_fingerprint, *hashes]).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``, which makes ``folder`` a prepared dataset."""
    content = json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False) + "\n"
    # the name of a source file may be no UTF-8; Python has half a surrogate pair for a byte, which JSON escapes
    write_synced(folder / "manifest.json", content.encode(errors="backslashreplace"))


def is_dataset(folder: Path) -> bool:
    """Whether a folder was written by ``prepare``, damaged or not: it holds files of such names and no others."""
    return all(OWN_FILE.fullmatch(path.name) and path.is_file() for path in folder.iterdir())


def load_manifest(folder: Path, tokenizer: TextTokenizer | TrainableTokenizer | None = None) -> Manifest:
    """The manifest of a prepared dataset whose files all have the right size.

    Args:
        folder: of the dataset.
        tokenizer: the one it must be made with; one that is yet to be trained is compared by name. None: any.

    Raises:
        UserError: the dataset is missing, damaged, of a newer format, or made with another tokenizer.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(
            f"{folder}: expected a prepared dataset, found no manifest.json: type {command_line('prepare')} with its "
            f"data= and {' '.join(tokenizer.overrides) if tokenizer else 'tokenizer='} first"
        )
    try:
        values = parse_json(path.read_bytes(), path)
        version = values["version"] if values["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):
        version = None
    if not isinstance(version, int):
        raise UserError(f"{path}: expected the manifest of a prepared dataset, found something else: {HOW_TO_FIX}")
    if version > VERSION:
        raise UserError(f"{path}: has version {version}, expected at most {VERSION}: update gpt2lab, or {HOW_TO_FIX}")
    manifest = parse_manifest(path, values)
    if tokenizer is not None:
        check_tokenizer(folder, manifest, tokenizer)
    for split in manifest.splits.values():
        for shard in split.shards:
            check_npy(folder / shard.file, token_dtype(manifest.vocab_size), shard.tokens)
            check_npy(folder / shard.starts_file, STARTS_DTYPE, shard.documents)
    for name in manifest.tokenizer_files:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: is missing: {HOW_TO_FIX}")
    return manifest


def parse_manifest(path: Path, values: dict[str, Any]) -> Manifest:
    """The JSON values as dataclasses; a ``UserError`` if keys are missing, unknown or contradict each other."""
    try:
        splits = {
            name: Split(**{**split, "shards": tuple(Shard(**shard) for shard in split["shards"])})
            for name, split in values["splits"].items()
        }
        manifest = Manifest(**{**values, "splits": splits})
        sums = [
            (sum(s.tokens for s in split.shards), sum(s.documents for s in split.shards)) for split in splits.values()
        ]
        consistent = (
            tuple(splits) == SPLITS
            and sums == [(split.tokens, split.documents) for split in splits.values()]
            and all(
                Path(name).name == name and name not in ("", "..")  # nothing outside the folder is read
                for split in splits.values()
                for shard in split.shards
                for name in (shard.file, shard.starts_file)
            )
            and all(Path(name).name == name for name in manifest.tokenizer_files)
            and manifest.dtype == token_dtype(manifest.vocab_size).name
            and manifest.fingerprint == dataset_fingerprint(manifest.tokenizer_fingerprint, splits)
        )
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: not a complete manifest ({error}): {HOW_TO_FIX}") from None
    if not consistent:
        raise UserError(f"{path}: its totals, dtype or fingerprint do not follow from its shards: {HOW_TO_FIX}")
    return manifest


def check_tokenizer(folder: Path, manifest: Manifest, tokenizer: TextTokenizer | TrainableTokenizer) -> None:
    """Raise ``UserError`` unless the dataset was made with ``tokenizer``."""
    found, found_fingerprint = manifest.tokenizer, manifest.tokenizer_fingerprint
    fingerprint = found_fingerprint if isinstance(tokenizer, TrainableTokenizer) else tokenizer.fingerprint
    if (found, found_fingerprint) != (tokenizer.name, fingerprint):
        raise UserError(
            f"{folder}: made with tokenizer={found} ({found_fingerprint[:12]}), expected "
            f"tokenizer={tokenizer.name} ({fingerprint[:12]}): {HOW_TO_FIX}"
        )


def check_npy(path: Path, dtype: np.dtype[Any], length: int) -> None:
    """Raise ``UserError`` unless ``path`` is a 1-D .npy file of that dtype and length, to the byte."""
    if not path.is_file():
        raise UserError(f"{path}: is missing: {HOW_TO_FIX}")
    with path.open("rb") as file:
        try:
            np.lib.format.read_magic(file)
            shape, _, found = np.lib.format.read_array_header_1_0(file)
        except (ValueError, SyntaxError, EOFError, TypeError, OverflowError, RecursionError, MemoryError):
            raise UserError(f"{path}: not a .npy file: {HOW_TO_FIX}") from None
        expected = file.tell() + length * dtype.itemsize
    if (shape, found) != ((length,), dtype):
        raise UserError(f"{path}: holds {found} {shape}, expected {dtype} ({length},): {HOW_TO_FIX}")
    if path.stat().st_size != expected:
        raise UserError(f"{path}: has {path.stat().st_size} bytes, expected {expected}: {HOW_TO_FIX}")


def verify(folder: Path, manifest: Manifest) -> None:
    """Check every file against its hash in the manifest; a ``UserError`` names the first that has changed."""
    hashes = dict(manifest.tokenizer_files)
    for split in manifest.splits.values():
        for shard in split.shards:
            hashes |= {shard.file: shard.sha256, shard.starts_file: shard.starts_sha256}
    for name, sha256 in hashes.items():
        if file_sha256(folder / name) != sha256:
            raise UserError(f"{folder / name}: has changed since it was prepared (SHA-256 differs): {HOW_TO_FIX}")
