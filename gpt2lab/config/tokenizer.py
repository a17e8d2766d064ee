"""How text becomes token ids."""

import json
from dataclasses import dataclass
from pathlib import Path

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.errors import UserError, check
from gpt2lab.config.escapes import expand_home

TOKENIZER_JSON = "tokenizer.json"
SMALLEST_BPE = 258
"""256 bytes, one merge and end-of-text"""


@dataclass
class TokenizerConfig(CheckedConfig):
    """How text becomes token ids."""

    name: str = "gpt2"
    """a key of gpt2lab.tokenizers.TOKENIZERS: gpt2 | bytes | bpe (trained on the training split) | huggingface"""
    vocab_size: int = 50_257
    """number of ids of that tokenizer; the model's vocabulary follows it"""
    path: str | None = None
    """huggingface: a tokenizer.json, or the directory that holds it"""

    def __post_init__(self) -> None:
        if self.name == "huggingface" and self.path is None:
            raise UserError(
                "tokenizer.path=null: expected the tokenizer.json to use, or its directory: type tokenizer.path=DIR"
            )
        if self.name != "huggingface" and self.path is not None:
            raise UserError(
                f"tokenizer.path={self.path}: tokenizer={self.name} reads no file: leave it out, or type "
                "tokenizer=huggingface"
            )
        if self.name == "bpe":
            check(
                self.vocab_size >= SMALLEST_BPE, "tokenizer.vocab_size", self.vocab_size,
                f"at least {SMALLEST_BPE}: 256 bytes, a merge and end-of-text",
            )  # fmt: skip


def vocab_size_of(path: str | None) -> int:
    """Return the number of ids of a tokenizer.json, without loading it as a tokenizer.

    Args:
        path: the file, or the directory that holds it; None: ``UserError``.
    """
    config = TokenizerConfig("huggingface", path=path)
    file = find_tokenizer_json(str(config.path))
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        vocabulary = values["model"]["vocab"]
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        ids += [token["id"] for token in values["added_tokens"]]
        return int(max(ids)) + 1
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"tokenizer.path={file}: not a tokenizer.json of the tokenizers library ({type(error).__name__}: {error})"
        ) from None


def find_tokenizer_json(path: str) -> Path:
    """Return the tokenizer.json that ``tokenizer.path=path`` names; a ``UserError`` if there is none."""
    place = Path(expand_home(path))
    file = place / TOKENIZER_JSON if place.is_dir() else place
    if not file.is_file():
        raise UserError(
            f"tokenizer.path={path}: {file} is missing; expected a tokenizer.json or a directory that holds one; "
            "transformers writes it: AutoTokenizer.from_pretrained(NAME).save_pretrained(DIR)"
        )
    return file
