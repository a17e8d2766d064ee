"""Text to token ids and back, without a network.

Each tokenizer is a class with the interface of ``Tokenizer``. A new one is a class, an entry of ``TOKENIZERS`` and a
YAML file under ``configs/tokenizer/``.
"""

from gpt2lab.tokenizers.base import END_OF_TEXT, Tokenizer
from gpt2lab.tokenizers.bpe import UntrainedBPE
from gpt2lab.tokenizers.hugging_face import HuggingFaceTokenizer, read_tokenizer
from gpt2lab.tokenizers.registry import (
    TOKENIZERS,
    check_vocabulary,
    load_tokenizer,
    open_tokenizer,
)

__all__ = [
    "END_OF_TEXT",
    "TOKENIZERS",
    "HuggingFaceTokenizer",
    "Tokenizer",
    "UntrainedBPE",
    "check_vocabulary",
    "load_tokenizer",
    "open_tokenizer",
    "read_tokenizer",
]
