"""Tokenizers by name."""

import functools
from collections.abc import Callable
from pathlib import Path

from gpt2lab.config import TokenizerConfig, UserError, choose
from gpt2lab.config.tokenizer import TOKENIZER_JSON
from gpt2lab.shell import command_line
from gpt2lab.tokenizers.base import Tokenizer
from gpt2lab.tokenizers.bpe import BPETokenizer, UntrainedBPE
from gpt2lab.tokenizers.bytes import BytesTokenizer
from gpt2lab.tokenizers.gpt2 import GPT2Tokenizer
from gpt2lab.tokenizers.hugging_face import read_tokenizer

BUILT_IN: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": functools.cache(GPT2Tokenizer),  # building it takes 0.06 s
    "bytes": functools.cache(BytesTokenizer),
}
"""Tokenizers that need no files beside the installed packages"""


def load_built_in(config: TokenizerConfig, folder: Path | None) -> Tokenizer:
    """Return a tokenizer of ``BUILT_IN``."""
    return BUILT_IN[config.name]()


def load_trained(config: TokenizerConfig, folder: Path | None) -> Tokenizer:
    """Return the BPE that was trained for the prepared dataset, or saved with the checkpoint, in ``folder``."""
    if folder is None or not (folder / TOKENIZER_JSON).is_file():
        raise UserError(
            f"tokenizer=bpe: {folder}/{TOKENIZER_JSON} is missing; the tokenizer is trained when its dataset is "
            f"prepared: type {command_line('prepare')} with this data= and tokenizer="
        )
    return BPETokenizer(read_tokenizer(str(folder)).files, where=str(folder / TOKENIZER_JSON))


def load_from_file(config: TokenizerConfig, folder: Path | None) -> Tokenizer:
    """Return the tokenizer of the model in ``folder``, where it holds one, else of ``tokenizer.path`` for training."""
    if folder is not None and (folder / TOKENIZER_JSON).is_file():
        return read_tokenizer(str(folder))
    return read_tokenizer(str(config.path)).with_end_of_text_first()


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
        folder: prepared dataset or checkpoint with the tokenizer's files; read where the tokenizer is not built in.

    Raises:
        UserError: no such tokenizer, its files are missing or broken, or it has another number of ids.
    """
    if isinstance(config, str):
        return choose(BUILT_IN, config, "tokenizer")()
    tokenizer = choose(TOKENIZERS, config.name, "tokenizer")(config, folder)
    check_vocabulary(config, tokenizer)
    return tokenizer


def open_tokenizer(config: TokenizerConfig) -> Tokenizer | UntrainedBPE:
    """Return the tokenizer for preparing a dataset: one that is trained on the dataset is not trained yet."""
    return UntrainedBPE(config.vocab_size) if config.name == "bpe" else load_tokenizer(config)


def check_vocabulary(config: TokenizerConfig, tokenizer: Tokenizer) -> None:
    """Raise ``UserError`` if the number of ids that a configuration gives is not the tokenizer's own."""
    if config.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"tokenizer.vocab_size={config.vocab_size}: {' '.join(tokenizer.overrides)} has {tokenizer.vocab_size} "
            "ids; leave tokenizer.vocab_size out"
        )
