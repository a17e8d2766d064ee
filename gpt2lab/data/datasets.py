"""A prepared set by its configuration: where it lives, whether it is the right one, what to type when it is not."""

import re
import shlex
from pathlib import Path

from gpt2lab.config import DataConfig, PrepareConfig, UserError
from gpt2lab.data.manifest import Manifest, TextTokenizer, load_manifest, token_dtype, verify
from gpt2lab.data.loading.mixture import open_mixture
from gpt2lab.data.preparation.build import build, exclusive
from gpt2lab.data.sources import open_source

UNASKED_LIMIT_BYTES = 200 * 1000**2
"""Training prepares a missing set by itself below this size, which is a minute's work or so."""

PLAIN_WORD = re.compile(r"[A-Za-z/_][\w./*-]*")
"""What needs no quotes in an override"""

VERIFY_LIMIT_BYTES = 2 * 1024**3
"""Training hashes the shards first below this size, which takes a second or two; above it checks their sizes."""


MIXTURE = "mixture"


def set_folder(data: DataConfig, tokenizer: TextTokenizer) -> Path:
    """Where the prepared set of ``data`` for ``tokenizer`` lives: ``<root>/<name>/<tokenizer>``."""
    return Path(data.root, data.name, tokenizer.name)


def prepare(data: DataConfig, prepare: PrepareConfig, tokenizer: TextTokenizer) -> Manifest:
    """Tokenise the source of ``data`` into a prepared set; equal input gives equal bytes.

    Raises:
        UserError: the set is there already and ``prepare.overwrite`` is false, the source cannot be read, or a split
            would be empty. A set that was there stays then; a hidden folder is left only if there is work of more than
            some seconds in it, from which the same command goes on.
    """
    if data.source == MIXTURE:
        raise UserError("data=mixture: prepare its sets one by one, data=NAME; training then reads all of them")
    folder = set_folder(data, tokenizer)
    source = open_source(data)
    source.size_bytes()
    with exclusive(folder.parent):
        if folder.exists() and not prepare.overwrite:
            raise UserError(
                f"{folder}: is there already: add prepare.overwrite=true to replace it, or another data.name"
            )
        return build(folder, source, data, prepare, tokenizer)


def open_or_prepare(data: DataConfig, tokenizer: TextTokenizer) -> tuple[Path, Manifest]:
    """The folder and manifest of a prepared set that fits ``data``; a small local source is prepared when missing.

    Raises:
        UserError: the set is missing and its source is large or elsewhere, was made from other text or settings than
            ``data`` names, or is damaged.
    """
    if data.source == MIXTURE:
        return open_set(data, tokenizer)
    folder = set_folder(data, tokenizer)
    source = open_source(data)
    if not folder.exists():
        if not source.local or source.size_bytes() >= UNASKED_LIMIT_BYTES:
            raise UserError(f"{folder}: this set is not prepared yet: type {prepare_command(data, tokenizer)}")
        with exclusive(folder.parent):
            if not folder.exists():  # another process may have made it meanwhile
                build(folder, source, data, PrepareConfig(), tokenizer)
    manifest = load_manifest(folder, tokenizer)
    difference = source.difference(manifest.source)
    if difference is None and source.split_rule is None and manifest.val_fraction != data.val_fraction:
        difference = f"data.val_fraction={manifest.val_fraction} there, data.val_fraction={data.val_fraction} here"
    if difference is None and manifest.deduplicate != data.deduplicate:
        difference = f"data.deduplicate={manifest.deduplicate} there, data.deduplicate={data.deduplicate} here"
    if difference:
        raise UserError(
            f"{folder}: was made from something else ({difference}): prepare it again with prepare.overwrite=true, "
            "or give another data.name"
        )
    item_bytes = token_dtype(manifest.vocab_size).itemsize
    if sum(split.tokens for split in manifest.splits.values()) * item_bytes < VERIFY_LIMIT_BYTES:
        verify(folder, manifest)
    return folder, manifest


def open_set(data: DataConfig, tokenizer: TextTokenizer) -> tuple[Path, Manifest]:
    """The folder and manifest of a prepared set or mixture, whatever text it was made from.

    Raises:
        UserError: a set is missing, damaged or of another tokenizer.
    """
    if data.source == MIXTURE:
        return open_mixture(data, tokenizer)
    folder = set_folder(data, tokenizer)
    return folder, load_manifest(folder, tokenizer)


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


