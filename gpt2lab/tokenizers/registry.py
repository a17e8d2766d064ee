"""The tokenizers by name."""

import functools
from collections.abc import Callable

from gpt2lab.config import TokenizerConfig, UserError, choose
from gpt2lab.tokenizers.base import Tokenizer
from gpt2lab.tokenizers.bytes import BytesTokenizer
from gpt2lab.tokenizers.gpt2 import GPT2Tokenizer

TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {"gpt2": GPT2Tokenizer, "bytes": BytesTokenizer}


@functools.cache
def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of that name, built once a process (gpt2 takes about half a second)."""
    return choose(TOKENIZERS, name, "tokenizer")()


def check_vocabulary(config: TokenizerConfig, tokenizer: Tokenizer) -> None:
    """Raise ``UserError`` if the number of ids a configuration gives is not the tokenizer's own."""
    if config.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"tokenizer.vocab_size={config.vocab_size}: {tokenizer.name} has {tokenizer.vocab_size} ids; leave it out, "
            f"and choose the tokenizer by tokenizer={tokenizer.name}"
        )
