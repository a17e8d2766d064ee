"""Finds the prepared dataset of a configuration and checks it; prepares it if it is missing and small."""

import logging
from pathlib import Path

from gpt2lab.config import DataConfig, PrepareConfig, UserError
from gpt2lab.config.data import MixtureConfig
from gpt2lab.data.loading.mixture import open_mixture
from gpt2lab.data.loading.overlap import validation_in_training
from gpt2lab.data.manifest import (
    Manifest,
    TextTokenizer,
    TrainableTokenizer,
    is_dataset,
    load_manifest,
    token_dtype,
    verify,
)
from gpt2lab.data.preparation.build import build_dataset
from gpt2lab.data.preparation.command_line import prepare_command
from gpt2lab.data.preparation.overwriting import preparing_lock, restore_if_interrupted, undo_interrupted_overwrite
from gpt2lab.data.sources import Source, open_source

log = logging.getLogger(__name__)

AUTOMATIC_LIMIT_BYTES = 200 * 1000**2
"""Training prepares a missing dataset by itself if its source is smaller than this, which takes a minute or so."""

VERIFY_LIMIT_BYTES = 2 * 1024**3
"""Training hashes the shards if they are smaller together (a second or two); else it checks their sizes only."""


def dataset_folder(data: DataConfig, tokenizer: TextTokenizer | TrainableTokenizer) -> Path:
    """Where the prepared dataset of ``data`` for ``tokenizer`` lives: ``<root>/<name>/<tokenizer>``, or its target.

    A folder that is a link (to a larger disk) stays one: what it leads to is written and replaced.
    """
    folder = Path(data.root, data.name, tokenizer.name)
    return folder.resolve() if folder.is_symlink() else folder


def prepare(data: DataConfig, settings: PrepareConfig, tokenizer: TextTokenizer | TrainableTokenizer) -> Manifest:
    """Tokenize the source of ``data`` into a prepared dataset; equal input gives equal bytes.

    Raises:
        UserError: the dataset exists and ``prepare.overwrite`` is false, the source cannot be read, or a split would be
            empty. An existing dataset then stays. A hidden folder is left only if it holds more than some seconds of
            work, from which the same command resumes.
    """
    if isinstance(data, MixtureConfig):
        raise UserError(
            "data=mixture: expected one dataset: prepare those of the mixture one by one with data=NAME; training then "
            "reads all of them"
        )
    folder = dataset_folder(data, tokenizer)
    source = open_source(data)
    source.size_bytes()
    with preparing_lock(folder):
        undo_interrupted_overwrite(folder)
        if folder.exists() and not settings.overwrite:
            raise UserError(
                f"{folder}: exists already: add prepare.overwrite=true to replace it, or give another data.name"
            )
        check_overwritable(folder)
        return build_dataset(folder, source, settings, tokenizer)


def check_overwritable(folder: Path) -> None:
    """Raise ``UserError`` if ``prepare.overwrite`` would delete something that is not a prepared dataset."""
    if folder.exists() and not (folder.is_dir() and is_dataset(folder)):
        raise UserError(
            f"prepare.overwrite=true: {folder} is not a prepared dataset, and would be deleted; move it away, or give "
            "another data.name"
        )


def open_or_prepare(data: DataConfig, tokenizer: TextTokenizer | TrainableTokenizer) -> tuple[Path, Manifest]:
    """The folder and manifest of the prepared dataset of ``data``; a small local source is prepared when missing.

    Raises:
        UserError: the dataset is missing and its source is large or remote, or it was made from other text or settings
            than those of ``data``, or it is damaged.
    """
    if isinstance(data, MixtureConfig):
        root, mixture = open_dataset(data, tokenizer)
        verify_if_small(root, mixture)
        for line in validation_in_training(data, root, mixture.tokenizer):
            log.warning("%s", line)
        return root, mixture
    folder = dataset_folder(data, tokenizer)
    source = open_source(data)
    restore_if_interrupted(folder)
    if not folder.exists():
        if not source.local or source.size_bytes() >= AUTOMATIC_LIMIT_BYTES:
            raise _not_prepared(folder, data, tokenizer)
        with preparing_lock(folder):
            if not folder.exists():  # another process may have prepared it meanwhile
                build_dataset(folder, source, PrepareConfig(), tokenizer)
    manifest = load_manifest(folder, tokenizer)
    if difference := difference_from(source, manifest):
        raise UserError(
            f"{folder}: was made from something else ({difference}): prepare it again with prepare.overwrite=true, "
            "or give another data.name"
        )
    verify_if_small(folder, manifest)
    return folder, manifest


def verify_if_small(folder: Path, manifest: Manifest) -> None:
    """Check the hashes of a dataset or mixture whose shards together are below ``VERIFY_LIMIT_BYTES``."""
    item_bytes = token_dtype(manifest.vocab_size).itemsize
    if sum(split.tokens for split in manifest.splits.values()) * item_bytes < VERIFY_LIMIT_BYTES:
        verify(folder, manifest)


def open_dataset(data: DataConfig, tokenizer: TextTokenizer | TrainableTokenizer) -> tuple[Path, Manifest]:
    """The folder and manifest of a prepared dataset or mixture, whatever text it was made from.

    Raises:
        UserError: a dataset is missing, damaged or made with another tokenizer.
    """
    if isinstance(data, MixtureConfig):
        for name in data.mixture:
            restore_if_interrupted(Path(data.root, name, tokenizer.name))
        return open_mixture(data, tokenizer)
    folder = dataset_folder(data, tokenizer)
    restore_if_interrupted(folder)
    if not folder.exists():
        raise _not_prepared(folder, data, tokenizer)
    return folder, load_manifest(folder, tokenizer)


def _not_prepared(folder: Path, data: DataConfig, tokenizer: TextTokenizer | TrainableTokenizer) -> UserError:
    return UserError(f"{folder}: this dataset is not prepared yet: type {prepare_command(data, tokenizer)}")


def difference_from(source: Source, manifest: Manifest) -> str | None:
    """The first setting or file of ``source`` that differs from those a dataset was made with; None if all agree."""
    if difference := source.difference(manifest.source):
        return difference
    for key in ("val_fraction", "deduplicate"):
        there, here = getattr(manifest, key), getattr(source, key)
        if there != here:
            return f"data.{key}={there} there, data.{key}={here} here"
    return None
