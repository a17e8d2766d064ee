"""``eval.json`` and ``documents.jsonl``: evaluations of one or several models, kept beside each other.

An evaluation is known by its part, model, text and settings. Running it again replaces it; any other is added.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpt2lab.config import UserError
from gpt2lab.files import parse_json, write_text

SCHEMA_VERSION = 1
UNIMPORTANT = ("batch_size",)
"""settings that change no value"""

Entry = dict[str, Any]


def evaluation_id(part: str, origin: dict[str, Any], protocol: dict[str, Any], settings: dict[str, Any]) -> str:
    """``PART-CORPUS-HASH``; the hash is over the model, the text and the settings, so it tells any two apart."""
    identity = {"origin": origin, "protocol": protocol, "settings": _without(settings, UNIMPORTANT)}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
    corpus = str(protocol.get("corpus", ""))
    return "-".join(name for name in (part, corpus, digest[:8]) if name)


def read_evaluations(path: Path) -> list[Entry]:
    """The evaluations in an ``eval.json``, the oldest first; none where there is no file.

    Raises:
        UserError: the file is damaged, or of another version.
    """
    if not path.is_file():
        return []
    try:
        content = parse_json(path.read_bytes(), path)
        version, entries = content["schema_version"], content["evaluations"]
        assert all(isinstance(entry["id"], str) for entry in entries)
    except (UserError, KeyError, TypeError, AssertionError):
        raise UserError(f"{path}: expected the record of evaluations; move the file away, or type out=FILE") from None
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: schema_version {version}, expected {SCHEMA_VERSION}; type out=FILE for a new file")
    result: list[Entry] = entries
    return result


def save_evaluations(path: Path, entries: Iterable[Entry]) -> None:
    """Add evaluations to an ``eval.json``; one with the same id is replaced. The file is replaced at once."""
    new = list(entries)
    ids = {entry["id"] for entry in new}
    kept = [entry for entry in read_evaluations(path) if entry["id"] not in ids]
    content = {"schema_version": SCHEMA_VERSION, "evaluations": [*kept, *new]}
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_documents(path: Path) -> list[str]:
    """The lines of a ``documents.jsonl``; none where there is no file. Raises ``UserError`` if it is another file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except UnicodeDecodeError:
        lines = [""]
    if not all(line.startswith('{"evaluation"') for line in lines):
        raise UserError(f"{path}: expected scores of documents, one JSON object per line; move the file away")
    return lines


def save_documents(path: Path, evaluation: str, lines: Iterable[dict[str, Any]]) -> None:
    """Put the scores of an evaluation's documents into ``documents.jsonl``; those of other evaluations stay."""
    kept = read_documents(path)
    mark = json.dumps({"evaluation": evaluation})[:-1]
    kept = [line for line in kept if not line.startswith(mark)]
    new = [json.dumps({"evaluation": evaluation, **line}) for line in lines]
    write_text(path, "".join(f"{line}\n" for line in [*kept, *new]))


def _without(settings: Any, names: tuple[str, ...]) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {key: _without(value, names) for key, value in settings.items() if key not in names}
