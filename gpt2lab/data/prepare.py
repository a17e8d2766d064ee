"""A source's documents -> train or val by a hash -> token ids in batches -> shards -> one rename into place.

Everything is written into a hidden folder beside the set's own, so that a set is either whole or not there.
"""

import fcntl
import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from gpt2lab.config import DataConfig, PrepareConfig, UserError
from gpt2lab.data.manifest import (
    END_OF_TEXT_RULE,
    FORMAT,
    SPLIT_RULE,
    VERSION,
    Manifest,
    Split,
    TextTokenizer,
    load_manifest,
    set_fingerprint,
    token_dtype,
    verify,
    write_manifest,
)
from gpt2lab.data.shards import ShardWriter
from gpt2lab.data.sources import Source, open_source
from gpt2lab.files import sync_folder

BATCH_CHARACTERS = 4 * 1024**2
"""Text that is tokenised at a time: enough to keep the tokenizer's threads busy."""

UNASKED_LIMIT_BYTES = 200 * 1000**2
"""Training prepares a missing set by itself below this size, which is a minute's work or so."""

PLAIN_WORD = re.compile(r"[A-Za-z/_][\w./*-]*")
"""What needs no quotes in an override"""

VERIFY_LIMIT_BYTES = 2 * 1024**3
"""Training hashes the shards first below this size, which takes a second or two; above it checks their sizes."""


def set_folder(data: DataConfig, tokenizer: TextTokenizer) -> Path:
    """Where the prepared set of ``data`` for ``tokenizer`` lives: ``<root>/<name>/<tokenizer>``."""
    return Path(data.root, data.name, tokenizer.name)


def prepare(data: DataConfig, prepare: PrepareConfig, tokenizer: TextTokenizer) -> Manifest:
    """Tokenise the source of ``data`` into a prepared set; equal input gives equal bytes.

    Raises:
        UserError: the set is there already and ``prepare.overwrite`` is false, the source cannot be read, or a split
            would be empty. Nothing is left behind then, and a set that was there stays.
    """
    folder = set_folder(data, tokenizer)
    source = open_source(data)
    source.size_bytes()
    with exclusive(folder.parent):
        if folder.exists() and not prepare.overwrite:
            raise UserError(
                f"{folder}: is there already: add prepare.overwrite=true to replace it, or another data.name"
            )
        return build(folder, source, data, prepare.shard_tokens, tokenizer)


def open_or_prepare(data: DataConfig, tokenizer: TextTokenizer) -> tuple[Path, Manifest]:
    """The folder and manifest of a prepared set that fits ``data``; a small local source is prepared when missing.

    Raises:
        UserError: the set is missing and its source is large or elsewhere, was made from other text or settings than
            ``data`` names, or is damaged.
    """
    folder = set_folder(data, tokenizer)
    source = open_source(data)
    if not folder.exists():
        if not source.local or source.size_bytes() >= UNASKED_LIMIT_BYTES:
            raise UserError(f"{folder}: this set is not prepared yet: type {prepare_command(data, tokenizer)}")
        with exclusive(folder.parent):
            if not folder.exists():  # another process may have made it meanwhile
                build(folder, source, data, PrepareConfig().shard_tokens, tokenizer)
    manifest = load_manifest(folder, tokenizer)
    difference = source.difference(manifest.source)
    if difference is None and manifest.val_fraction != data.val_fraction:
        difference = f"data.val_fraction={manifest.val_fraction} there, data.val_fraction={data.val_fraction} here"
    if difference:
        raise UserError(
            f"{folder}: was made from something else ({difference}): prepare it again with prepare.overwrite=true, "
            "or give another data.name"
        )
    item_bytes = token_dtype(manifest.vocab_size).itemsize
    if sum(split.tokens for split in manifest.splits.values()) * item_bytes < VERIFY_LIMIT_BYTES:
        verify(folder)
    return folder, manifest


def prepare_command(data: DataConfig, tokenizer: TextTokenizer) -> str:
    """The command line that prepares ``data``, on one line; every setting is in it, since YAML files have defaults."""
    settings = {key: value for key, value in vars(data).items() if key != "source"}
    overrides = [f"data={data.source}", f"tokenizer={tokenizer.name}"]
    overrides += [f"data.{key}={hydra_value(value)}" for key, value in settings.items()]
    return " ".join(["python", "prepare.py", *map(shell_word, overrides)])


def hydra_value(value: object) -> str:
    """A value as Hydra's override grammar reads it."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(map(hydra_value, value))}]"
    if not isinstance(value, str) or (PLAIN_WORD.fullmatch(value) and value.lower() not in ("true", "false", "null")):
        return str(value)
    # Only a quote, and backslashes before one, are escaped in a quoted value.
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + '\\"' * bool(found[2]), value) + '"'


def shell_word(word: str) -> str:
    """A word for bash or zsh, without a line break in it."""
    if word.isprintable():
        return shlex.quote(word)
    escapes = {"\\": r"\\", "'": r"\'", "\n": r"\n", "\t": r"\t"}
    escapes |= {c: f"\\U{ord(c):08x}" for c in word if not c.isprintable() and c not in escapes}
    return f"$'{''.join(escapes.get(c, c) for c in word)}'"


# ------------------------------------------------------------------------------------------------------------- building


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold ``folder``, made if need be, against other processes; the lock goes when the process does.

    The folder is removed again if nothing was put into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        os.close(handle)


def build(folder: Path, source: Source, data: DataConfig, shard_tokens: int, tokenizer: TextTokenizer) -> Manifest:
    """Write the whole set beside ``folder`` and put it there; the caller holds the parent folder."""
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir()
    try:
        splits = write_splits(new, source, data, shard_tokens, tokenizer)
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            tokenizer=tokenizer.name,
            vocab_size=tokenizer.vocab_size,
            eot_id=tokenizer.eot_id,
            tokenizer_fingerprint=tokenizer.fingerprint,
            end_of_text_rule=END_OF_TEXT_RULE,
            split_rule=SPLIT_RULE,
            val_fraction=data.val_fraction,
            dtype=token_dtype(tokenizer.vocab_size).name,
            source=source.describe(),
            skipped=dict(sorted(source.skipped.items())),
            splits=splits,
            fingerprint=set_fingerprint(tokenizer.fingerprint, splits),
        )
        write_manifest(new, manifest)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
    return manifest


def write_splits(
    new: Path, source: Source, data: DataConfig, shard_tokens: int, tokenizer: TextTokenizer
) -> dict[str, Split]:
    """Write the shards of both splits; a ``UserError`` if one has no document."""
    with (
        ShardWriter(new, "train", tokenizer, shard_tokens) as train,
        ShardWriter(new, "val", tokenizer, shard_tokens) as val,
        tqdm(total=source.size_bytes(), unit="B", unit_scale=True, desc=data.name, disable=None) as progress,
    ):
        for texts in batches(source):
            encoded = [text.encode("utf-8") for text in texts]
            ids = tokenizer.encode_batch(texts)
            held_out = [is_held_out(text, data.val_fraction) for text in encoded]
            for writer, side in ((train, False), (val, True)):
                chosen = [i for i, held in enumerate(held_out) if held == side]
                writer.add([ids[i] for i in chosen], sum(len(encoded[i]) for i in chosen))
            progress.set_postfix(documents=train.documents + val.documents, refresh=False)
            progress.update(sum(map(len, encoded)))
        documents = train.documents + val.documents
        if documents == 0:
            where = f"data.files=[{','.join(data.files)}]" if data.files else f"data.source={data.source}"
            raise UserError(f"{where}: expected text, found none: name files that are not empty")
        if 0 in (train.documents, val.documents):
            raise UserError(
                f"data.val_fraction={data.val_fraction}: all {documents} documents fell into "
                f"{'train' if train.documents else 'val'}, expected some in each split: another data.val_fraction, or "
                "more documents by data.delimiter or a smaller data.min_document_bytes"
            )
        return {"train": train.finish(), "val": val.finish()}


def batches(source: Source) -> Iterator[list[str]]:
    """The documents that hold text, some megabytes at a time."""
    texts: list[str] = []
    characters = 0
    for text in source.documents():
        if not text:
            source.skipped["empty"] += 1
            continue
        texts.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield texts
            texts, characters = [], 0
    if texts:
        yield texts


def is_held_out(document: bytes, val_fraction: float) -> bool:
    """Whether a document is validation text, by nothing but its own bytes: copies of it fall on the same side."""
    return int.from_bytes(hashlib.sha256(document).digest()[:8], "big") < val_fraction * 2**64
