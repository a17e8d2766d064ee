"""How text becomes token ids."""

from dataclasses import dataclass


@dataclass
class TokenizerConfig:
    """How text becomes token ids."""

    name: str = "gpt2"
    """a key of gpt2lab.tokenizers.TOKENIZERS"""
    vocab_size: int = 50_257
    """number of ids of that tokenizer; the model's vocabulary follows it"""
