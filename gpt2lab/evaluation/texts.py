"""What is scored: a text as token ids, with the counts its figures are divided by."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import DataConfig, UserError
from gpt2lab.data import TokenStream, open_set, verify
from gpt2lab.tokenizer import Tokenizer


@dataclass(frozen=True)
class EvalText:
    """A text that begins with an end-of-text, which is context for its first token and is not scored itself."""

    tokens: NDArray[np.integer]
    """ids, [n]"""
    words: int
    """white-space separated words of the text"""
    description: dict[str, Any]
    """what the text is, for ``eval.json``"""


def text_from_file(path: Path, tokenizer: Tokenizer) -> EvalText:
    """A UTF-8 file as one document, without the byte order mark that some editors put first.

    Raises:
        UserError: the file is missing, empty, or not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"eval.text_file={path}: no such file")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"eval.text_file={path}: expected UTF-8, byte {error.start} is not") from None
    if not text.strip():
        raise UserError(f"eval.text_file={path}: expected text, the file is empty")
    tokens = np.array([tokenizer.eot_id, *tokenizer.encode(text)])
    return EvalText(tokens, len(text.split()), {"text": str(path), "sha256": hashlib.sha256(content).hexdigest()})


def text_from_validation_split(data: DataConfig, tokenizer: Tokenizer, fingerprint: str) -> EvalText:
    """The whole validation split of a prepared set: its documents in order, an end-of-text before each.

    Raises:
        UserError: the set is missing, damaged, made with another tokenizer, or not the one of this fingerprint, in
            which case text that was trained on may have moved to this side.
    """
    folder, manifest = open_set(data, tokenizer)
    if manifest.fingerprint != fingerprint:
        raise UserError(
            f"{folder} is data {manifest.fingerprint[:12]}, the model was trained on {fingerprint[:12]}: its "
            "validation split may hold training text; restore that set, or name a text with eval.text_file="
        )
    verify(folder, manifest)
    stream = TokenStream(folder, manifest, "val")
    tokens = stream.read(0, len(stream))
    documents = np.split(tokens, np.flatnonzero(tokens == tokenizer.eot_id))
    words = sum(
        len(tokenizer.decode(document[document != tokenizer.eot_id].tolist()).split()) for document in documents
    )
    return EvalText(tokens, words, {"text": f"validation split of {folder}", "data_fingerprint": manifest.fingerprint})
