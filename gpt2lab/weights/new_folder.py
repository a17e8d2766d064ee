"""Writes an exported model's folder as a whole: FOLDER.<id>.tmp/ -> rename -> FOLDER/, or into an empty FOLDER/."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from gpt2lab.config import UserError
from gpt2lab.files import check_writable, not_written
from gpt2lab.locks import locked, try_lock
from gpt2lab.model import GPT
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.tokenizers.hugging_face import TOKENIZER_CONFIG

README = "README.md"
OPENED = ("config.json", "model.onnx", "model.gguf")
"""the file of each format without which the others are no model"""


def check_free(folder: Path) -> None:
    """Raise ``UserError`` unless a directory can be written at ``folder``: nothing is there, or an empty folder.

    What a killed export left there is removed first.
    """
    _remove_leftovers(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        check_writable(folder / README, "out")
        return
    if folder.exists():
        raise UserError(f"out={folder}: already exists; expected a new or empty folder; try another out")
    check_writable(folder, "out")


def check_ids(model: GPT, tokenizer: Tokenizer) -> None:
    """Raise ``UserError`` if the tokenizer has ids without a row of the embedding: no program could read its text."""
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(
            f"tokenizer={tokenizer.name}: has {tokenizer.vocab_size} ids, model.vocab_size={model.config.vocab_size}; "
            "expected the tokenizer of the model; open_model(...) and load_model(...) return both"
        )


@contextmanager
def new_folder(folder: str | Path, model: GPT, card: str | None) -> Iterator[Path]:
    """Yield a temporary folder to fill; give it the name ``folder`` at the end, remove it after an error.

    A folder that exists keeps its identity, as it may be a mount point or the current folder: the files are moved into
    it, the one that makes it a model last.

    Args:
        folder: a new or empty one.
        model: whose weights are written.
        card: the text of README.md; None: no such file.

    Raises:
        UserError: ``folder`` is in use, or the files could not be written.
    """
    folder = Path(folder).resolve()
    check_free(folder)
    exists, suffix = folder.is_dir(), f".{secrets.token_hex(3)}.tmp"
    temporary = folder / suffix if exists else folder.with_name(f"{folder.name}{suffix}")
    try:
        temporary.mkdir(parents=True)
        with locked(temporary, f"{temporary}: another process writes there; try another out"):
            yield temporary
            if card is not None:
                (temporary / README).write_text(card, encoding="utf-8")
            if exists:
                for file in sorted(temporary.iterdir(), key=lambda file: file.name in OPENED):
                    file.rename(folder / file.name)
            else:
                temporary.rename(folder)
    except (OSError, SafetensorError) as error:
        needed = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        raise not_written(folder, needed, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # after the rename there is none


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders of exports to ``folder`` whose process is gone, as its lock is then."""
    folder = folder.absolute()
    for parent, name in ((folder.parent, folder.name), (folder, "")):
        pattern = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{6}}\.tmp")
        found = [path for path in parent.iterdir() if pattern.fullmatch(path.name)] if parent.is_dir() else []
        for path in found:
            with suppress(OSError):
                lock = try_lock(path)
                if lock is not None:
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(lock)


def write_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write the files from which ``AutoTokenizer`` makes ``tokenizer``, for a model of ``context`` positions."""
    for name, content in tokenizer.hugging_face_files().items():
        if name == TOKENIZER_CONFIG:
            write_transformers_json(folder / name, json.loads(content) | {"model_max_length": context})
        else:
            (folder / name).write_text(content, encoding="utf-8", newline="")


def write_transformers_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file as ``transformers`` does."""
    path.write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
