"""Text to token ids and back, without a network.

Each tokenizer is a class with the interface of ``Tokenizer``. A new one is a class, an entry of ``TOKENIZERS`` and a
YAML file under ``configs/tokenizer/``.
"""

from gpt2lab.tokenizers.base import END_OF_TEXT, Tokenizer
from gpt2lab.tokenizers.registry import TOKENIZERS, check_vocabulary, load_tokenizer

__all__ = ["END_OF_TEXT", "TOKENIZERS", "Tokenizer", "check_vocabulary", "load_tokenizer"]
