"""Tokenizers by name."""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from gpt2lab.config import TokenizerConfig, UserError, choose
from gpt2lab.config.tokenizer import TOKENIZER_JSON
from gpt2lab.tokenizers.base import Tokenizer
from gpt2lab.tokenizers.bpe import bpe_name, train_bpe
from gpt2lab.tokenizers.bytes import BytesTokenizer
from gpt2lab.tokenizers.gpt2 import GPT2Tokenizer
from gpt2lab.tokenizers.hugging_face import read_tokenizer

BUILT_IN: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": functools.cache(GPT2Tokenizer),  # building it takes about half a second
    "bytes": functools.cache(BytesTokenizer),
}
"""Tokenizers that need no files beside the installed packages"""


def load_built_in(config: TokenizerConfig, folder: Path | None) -> Tokenizer:
    """Return a tokenizer of ``BUILT_IN``."""
    return BUILT_IN[config.name]()


def load_trained(config: TokenizerConfig, folder: Path | None) -> Tokenizer:
    """Return the BPE that was trained for the prepared dataset, or saved with the checkpoint, in ``folder``."""
    name = bpe_name(config.vocab_size)
    if folder is None or not (folder / TOKENIZER_JSON).is_file():
        raise UserError(
            f"tokenizer=bpe: {folder / TOKENIZER_JSON if folder else name} is not there yet: it is trained with the "
            "dataset; type python prepare.py with the same data= and tokenizer="
        )
    return read_tokenizer(str(folder), name)


def load_from_file(config: TokenizerConfig, folder: Path | None) -> Tokenizer:
    """Return the tokenizer of ``folder``, where it holds one, else of ``tokenizer.path``."""
    saved = folder is not None and (folder / TOKENIZER_JSON).is_file()
    return read_tokenizer(str(folder if saved else config.path))


TOKENIZERS: dict[str, Callable[[TokenizerConfig, Path | None], Tokenizer]] = {
    "gpt2": load_built_in,
    "bytes": load_built_in,
    "bpe": load_trained,
    "huggingface": load_from_file,
}


def load_tokenizer(config: TokenizerConfig | str, folder: Path | None = None) -> Tokenizer:
    """Return the tokenizer of a configuration.

    Args:
        config: which; a string is the name of one that is built in (gpt2, bytes).
        folder: prepared dataset or checkpoint whose files are read; only for tokenizers that are not built in.

    Raises:
        UserError: no such tokenizer, or its files are missing or broken.
    """
    if isinstance(config, str):
        return choose(BUILT_IN, config, "tokenizer")()
    return choose(TOKENIZERS, config.name, "tokenizer")(config, folder)


def load_or_train_tokenizer(
    config: TokenizerConfig, folder: Path, documents: Callable[[], Iterable[str]]
) -> Tokenizer:
    """Return the tokenizer of a configuration; one that is trained on a corpus is trained if ``folder`` has none yet.

    Args:
        config: which.
        folder: the prepared dataset, which may not be there yet.
        documents: gives the documents of its training split.
    """
    if config.name == "bpe" and not (folder / TOKENIZER_JSON).is_file():
        return train_bpe(documents(), config.vocab_size)
    return load_tokenizer(config, folder)


def dataset_name(config: TokenizerConfig) -> str:
    """Return ``Tokenizer.name`` of a tokenizer that may not be trained yet."""
    return bpe_name(config.vocab_size) if config.name == "bpe" else load_tokenizer(config).name


def check_vocabulary(config: TokenizerConfig, tokenizer: Tokenizer) -> None:
    """Raise ``UserError`` if the number of ids that a configuration gives is not the tokenizer's own."""
    if config.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"tokenizer.vocab_size={config.vocab_size}: {tokenizer.name} has {tokenizer.vocab_size} ids; leave it out, "
            f"and choose the tokenizer by {' '.join(tokenizer.overrides)}"
        )
