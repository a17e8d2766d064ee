"""Writes an exported model's folder as a whole: FOLDER.<id>.tmp/ -> rename -> FOLDER/."""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from gpt2lab.config import UserError
from gpt2lab.files import check_writable, not_written
from gpt2lab.model import GPT
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.tokenizers.hugging_face import TOKENIZER_CONFIG

README = "README.md"


def check_free(folder: Path) -> None:
    """Raise ``UserError`` unless a directory can be written at ``folder``: nothing is there, or an empty folder."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        raise UserError(f"out={folder}: already exists; expected a new or empty folder; try another out")
    check_writable(folder, "out")


@contextmanager
def new_folder(folder: str | Path, model: GPT, card: str | None) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it to ``folder`` at the end, remove it after an error.

    Args:
        folder: a new one.
        model: whose weights are written.
        card: the text of README.md; None: no such file.

    Raises:
        UserError: ``folder`` already exists, or the files could not be written.
    """
    folder = Path(folder).resolve()
    check_free(folder)
    temporary = folder.with_name(f"{folder.name}.{secrets.token_hex(3)}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if card is not None:
            (temporary / README).write_text(card, encoding="utf-8")
        temporary.rename(folder)
    except (OSError, SafetensorError) as error:
        needed = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        raise not_written(folder, needed, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # after the rename there is none


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
