"""The tokenizer of a Hugging Face directory: GPT-2's, bytes, or its own tokenizer.json.

GPT-2's ids are recognized, so that its copies, exports and fine-tuned models share prepared datasets and results.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2lab.config import TokenizerConfig
from gpt2lab.config.tokenizer import TOKENIZER_JSON, vocab_size_of
from gpt2lab.files import read_json
from gpt2lab.tokenizers.base import END_OF_TEXT
from gpt2lab.tokenizers.byte_level import ByteLevelVocabulary
from gpt2lab.tokenizers.bytes import bytes_vocabulary
from gpt2lab.tokenizers.gpt2 import GPT2Tokenizer, gpt2_vocabulary
from gpt2lab.tokenizers.hugging_face import find_special_tokens
from gpt2lab.tokenizers.tokenizer_json import text_to_ids

VOCAB_JSON = "vocab.json"
ADDED_TOKENS_JSON = "added_tokens.json"
BUILT_IN_VOCABULARIES = {"gpt2": gpt2_vocabulary, "bytes": bytes_vocabulary}

MAX_PADDING_ROWS = 1024
"""Embeddings have more rows than there are ids, up to a multiple of some power of two."""


def find_directory_tokenizer(folder: Path, rows: int) -> TokenizerConfig | None:
    """Return the tokenizer of a directory; None if nothing tells.

    Without tokenizer files, an embedding of 50,257 rows is taken for GPT-2's ids.

    Args:
        folder: Hugging Face directory.
        rows: of the model's embedding.

    Raises:
        UserError: tokenizer.json or vocab.json is broken.
    """
    if (folder / TOKENIZER_JSON).is_file():
        values = read_json(folder / TOKENIZER_JSON)
        for name, vocabulary in BUILT_IN_VOCABULARIES.items():
            if _is_built_in(values, vocabulary(), folder / TOKENIZER_JSON):
                return TokenizerConfig(name, len(vocabulary().ids))
        return TokenizerConfig("huggingface", vocab_size_of(str(folder)), str(folder))
    if (folder / VOCAB_JSON).is_file():
        ids = read_json(folder / VOCAB_JSON)
        for name, vocabulary in BUILT_IN_VOCABULARIES.items():
            if _has_its_special_tokens(folder / VOCAB_JSON, ids | _added_tokens(folder), vocabulary().ids):
                return TokenizerConfig(name, len(ids))
        return None
    return TokenizerConfig(GPT2Tokenizer.name, rows) if rows == GPT2Tokenizer.vocab_size else None


def _is_built_in(values: Mapping[str, Any], vocabulary: ByteLevelVocabulary, file: Path) -> bool:
    """Whether a tokenizer.json gives the ids of a built-in tokenizer for every text, and has its special tokens."""
    added = values.get("added_tokens")
    if not isinstance(added, list) or not all(isinstance(token, dict) and token.get("special") for token in added):
        return False
    model = values.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        return False
    if not all(isinstance(token.get("content"), str) for token in added):
        return False
    ids = model["vocab"] | {token["content"]: token.get("id") for token in added}
    if not _has_its_special_tokens(file, ids, vocabulary.ids):
        return False
    try:
        return text_to_ids(values) == text_to_ids(json.loads(vocabulary.tokenizer_json()))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):  # damaged, which its reader reports
        return False


def _has_its_special_tokens(file: Path, ids: Mapping[str, int], built_in: Mapping[str, int]) -> bool:
    """Whether ``ids`` are those of a built-in tokenizer, and texts begin and end with its end-of-text.

    One more token, for padding, does no harm, as no text and no target has it. Any other may be trained: a row of the
    embedding that is cut off as padding would lose it.

    Args:
        file: whose neighbors name the special tokens.
        ids: of all pieces and added tokens.
        built_in: those of the built-in tokenizer.
    """
    if not all(isinstance(token, int) for token in ids.values()):
        return False
    token_of_id = {token: piece for piece, token in ids.items()}.get
    padding = find_special_tokens(file, token_of_id, ("pad_token",)).values() - built_in.keys()
    if {piece: token for piece, token in ids.items() if piece not in padding} != built_in:
        return False
    return set(find_special_tokens(file, token_of_id).values()) <= {END_OF_TEXT}


def _added_tokens(folder: Path) -> dict[str, int]:
    """The ids of the tokens that were added to a vocab.json."""
    file = folder / ADDED_TOKENS_JSON
    return read_json(file) if file.is_file() else {}
