"""``eval.json`` and ``documents.jsonl``: evaluations of one or several models, kept beside each other.

An evaluation is known by its part, model, text and settings. Running it again replaces it; any other is added.
Processes that evaluate at the same time write one after the other.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2lab.config import UserError
from gpt2lab.files import parse_json, write_text
from gpt2lab.locks import locked_when_free
from gpt2lab.runs.layout import DOCUMENTS, EVALUATION_LOCK
from gpt2lab.runs.records import Line, finite_or_none, write_json

SCHEMA_VERSION = 1
UNIMPORTANT = ("batch_size",)
"""settings that change no value"""
OF_THE_MODEL = ("attention",)
"""what a protocol takes from the model's training; left out, so that the record of a version without it is replaced"""

Entry = dict[str, Any]


def evaluation_id(part: str, origin: dict[str, Any], protocol: dict[str, Any], settings: dict[str, Any]) -> str:
    """``PART-CORPUS-HASH``; the hash is over the model, the text and the settings, so it tells any two apart.

    A text with a SHA-256 is known by it and by its corpus, wherever its file is.
    """
    text = {"text": protocol["corpus"]} if {"text", "sha256"} <= protocol.keys() else {}
    identity = {
        "origin": origin,
        "protocol": _without({**protocol, **text}, OF_THE_MODEL),
        "settings": _without(settings, UNIMPORTANT),
    }
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


def read_documents(path: Path) -> list[str]:
    """The lines of a ``documents.jsonl``; none where there is no file. Raises ``UserError`` if it is another file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except UnicodeDecodeError:
        lines = [""]
    if not all(line.startswith('{"evaluation"') for line in lines):
        raise UserError(f"{path}: expected scores of documents, one JSON object per line; move the file away")
    return lines


def save_record(path: Path, entries: Sequence[Entry], documents: Mapping[str, Sequence[Line]]) -> None:
    """Add evaluations to an ``eval.json``, and the scores of documents to the ``documents.jsonl`` beside it.

    Those with the same id are replaced; each file is replaced at once. Waits while another process writes there, so
    that none loses what another one adds.

    Args:
        path: of the ``eval.json``.
        entries: the evaluations, each with an ``id``.
        documents: id of an evaluation -> one line per document.
    """
    lock = path.parent / EVALUATION_LOCK
    with locked_when_free(lock, f"{path.parent}: another process saves its evaluation there; waiting until it ends"):
        if documents:
            _add_documents(path.parent / DOCUMENTS, documents)
        _add_evaluations(path, entries)


def _add_evaluations(path: Path, new: Sequence[Entry]) -> None:
    ids = {entry["id"] for entry in new}
    others = [entry for entry in read_evaluations(path) if entry["id"] not in ids]
    content = {"schema_version": SCHEMA_VERSION, "evaluations": [*others, *new]}
    write_json(path, finite_or_none(content))


def _add_documents(path: Path, documents: Mapping[str, Sequence[Line]]) -> None:
    marks = tuple(json.dumps({"evaluation": evaluation})[:-1] for evaluation in documents)
    others = [line for line in read_documents(path) if not line.startswith(marks)]
    new = [json.dumps({"evaluation": name, **line}) for name, lines in documents.items() for line in lines]
    write_text(path, "".join(f"{line}\n" for line in [*others, *new]))


def _without(settings: Any, names: tuple[str, ...]) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {key: _without(value, names) for key, value in settings.items() if key not in names}
