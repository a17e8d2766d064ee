"""Tokenizers in the files of ``transformers``: written for export, recognised on the way in.

A file writes a byte as a printable character (``byte_characters`` of gpt2lab.tokenizers). ``bytes`` is a byte-level BPE
like GPT-2's, with 256 pieces and no merges, so that ``AutoTokenizer`` gives the same ids for both. One difference is
left, the custom of each side: the characters <|endoftext|> in a text are text to gpt2lab, and end-of-text there.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gpt2lab.config import choose
from gpt2lab.files import read_json
from gpt2lab.tokenizers.base import END_OF_TEXT
from gpt2lab.tokenizers.byte_level import byte_characters
from gpt2lab.tokenizers.bytes import BytesTokenizer
from gpt2lab.tokenizers.gpt2 import VOCABULARY_SHA256, GPT2Tokenizer, find_vocabulary, read_checked


class BytePieces(NamedTuple):
    """A byte-level BPE."""

    ids: dict[str, int]
    """by piece, end-of-text too"""
    merges: list[str]
    """pairs of pieces in the order they are joined, a space between the two"""
    splits_words: bool
    """whether the text is cut into words first, by GPT-2's pattern"""


def gpt2_pieces() -> BytePieces:
    """OpenAI's files."""
    encoder, merges = (_read_vocabulary(name).decode() for name in ("encoder.json", "vocab.bpe"))
    return BytePieces(json.loads(encoder), merges.split("\n")[1:-1], splits_words=True)


def bytes_pieces() -> BytePieces:
    """A piece a byte."""
    ids = {character: byte for byte, character in byte_characters().items()}
    return BytePieces(ids | {END_OF_TEXT: BytesTokenizer.eot_id}, [], splits_words=False)


PIECES: dict[str, Callable[[], BytePieces]] = {"gpt2": gpt2_pieces, "bytes": bytes_pieces}


def recognise_tokenizer(folder: Path, rows: int) -> tuple[str | None, int]:
    """The tokenizer whose ids a Hugging Face directory has, and their number; (None, ``rows``) if it is none of ours.

    Its vocab.json or tokenizer.json decides. Without them 50,257 rows of the embedding are taken for GPT-2's ids.
    """
    if (folder / "vocab.json").is_file():
        theirs = read_json(folder / "vocab.json")
    elif (folder / "tokenizer.json").is_file():
        theirs = _pieces_of(read_json(folder / "tokenizer.json"))
    else:
        is_gpt2 = rows == GPT2Tokenizer.vocab_size
        return (GPT2Tokenizer.name if is_gpt2 else None), rows
    for name, pieces in PIECES.items():
        ids = pieces().ids
        if len(ids) <= rows and ids.items() <= theirs.items():
            return name, len(ids)
    return None, rows


def write_tokenizer(name: str, folder: Path, context: int) -> None:
    """Write the files from which ``AutoTokenizer`` makes the tokenizer ``name``, for a model of so many positions."""
    pieces = choose(PIECES, name, "tokenizer")()
    if name == GPT2Tokenizer.name:  # GPT2Tokenizer of transformers before 5 reads these two
        (folder / "vocab.json").write_bytes(_read_vocabulary("encoder.json"))
        (folder / "merges.txt").write_bytes(_read_vocabulary("vocab.bpe"))
    settings = {
        "tokenizer_class": "GPT2Tokenizer" if name == GPT2Tokenizer.name else "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }
    _write_json(folder / "tokenizer_config.json", settings)
    _write_json(folder / "tokenizer.json", _tokenizer_json(pieces))


def _pieces_of(tokenizer_json: dict[str, Any]) -> dict[str, Any]:
    """Ids by piece, end-of-text and the like too; empty where the file is of another kind."""
    model, added = tokenizer_json.get("model"), tokenizer_json.get("added_tokens")
    pieces = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(pieces, dict) or not isinstance(added, list):
        return {}
    return pieces | {str(token["content"]): token["id"] for token in added if {"content", "id"} <= set(token)}


def _tokenizer_json(pieces: BytePieces) -> dict[str, Any]:
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": pieces.splits_words,
    }
    end_of_text = {
        "id": pieces.ids[END_OF_TEXT],
        "content": END_OF_TEXT,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [end_of_text],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": pieces.ids,
            "merges": pieces.merges,
        },
    }


def _read_vocabulary(name: str) -> bytes:
    return read_checked(find_vocabulary() / name, VOCABULARY_SHA256[name])


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
