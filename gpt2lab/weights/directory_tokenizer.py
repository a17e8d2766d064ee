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
            if vocabulary().ids == ids and _begins_and_ends_with_end_of_text(folder / VOCAB_JSON, ids):
                return TokenizerConfig(name, len(ids))
        return None
    return TokenizerConfig(GPT2Tokenizer.name, rows) if rows == GPT2Tokenizer.vocab_size else None


def _is_built_in(values: Mapping[str, Any], vocabulary: ByteLevelVocabulary, file: Path) -> bool:
    """Whether a tokenizer.json gives the ids of a built-in tokenizer for every text, and begins and ends texts alike.

    More special tokens, such as one for padding, do no harm.
    """
    added = values.get("added_tokens")
    if not isinstance(added, list) or not all(isinstance(token, dict) and token.get("special") for token in added):
        return False
    model = values.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        return False
    ids = model["vocab"] | {token.get("content"): token.get("id") for token in added}
    special = {token.get("content") for token in added} - {END_OF_TEXT}
    if {piece: token for piece, token in ids.items() if piece not in special} != vocabulary.ids:
        return False
    if not _begins_and_ends_with_end_of_text(file, ids):
        return False
    return text_to_ids(values) == text_to_ids(json.loads(vocabulary.tokenizer_json()))


def _begins_and_ends_with_end_of_text(file: Path, ids: Mapping[str, int]) -> bool:
    """Whether ``bos_token`` and ``eos_token`` are end-of-text wherever the files beside ``file`` name them."""
    tokens = {token: piece for piece, token in ids.items()}
    return set(find_special_tokens(file, tokens.get).values()) <= {END_OF_TEXT}
