"""What a tokenizer.json says: the bytes of each id, whether text survives encoding, whether tiktoken gives its ids.

Two kinds of pieces stand for bytes. Byte-level pieces (GPT-2, Llama 3, Pythia, SmolLM) write a byte as a printable
character. SentencePiece's pieces (Llama 2, Gemma, T5) write a space as U+2581 and single bytes as ``<0x0A>``.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tokenizers

from gpt2lab.config import UserError
from gpt2lab.tokenizers.byte_level import piece_bytes

SPACE = "\u2581"
NONCHARACTER = "\U0010ffff"
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def piece_bytes_by_id(values: Mapping[str, Any], where: str) -> list[bytes]:
    """Return the bytes of each id, b"" for an id without a piece.

    Raises:
        UserError: the pieces are neither byte-level nor SentencePiece's (WordPiece, WordLevel).
    """
    model = values["model"]
    kind = _model_type(values)
    pieces = dict(_pieces(model["vocab"]))
    components = [*_components(values, "normalizer"), *_components(values, "pre_tokenizer")]
    components += _components(values, "decoder")
    if kind == "BPE" and any(part["type"] == "ByteLevel" for part in components):
        to_bytes = piece_bytes
    elif kind in ("BPE", "Unigram") and any(_is_sentencepiece(part) for part in components):
        to_bytes = _sentencepiece_bytes
    else:
        raise UserError(
            f"{where}: its model is {kind} with {', '.join(part['type'] for part in components) or 'no decoder'}; its "
            "ids stand for no bytes; expected byte-level BPE (GPT-2, Llama 3, Pythia) or SentencePiece's BPE or Unigram"
        )
    added = {token["id"]: token["content"] for token in values["added_tokens"]}
    by_id = [b""] * (max([*pieces, *added]) + 1)
    for token, piece in pieces.items():
        if token not in added:
            try:
                by_id[token] = to_bytes(piece)
            except UnicodeEncodeError:
                raise UserError(f"{where}: piece {piece!r} of id {token} stands for no bytes") from None
    for token, content in added.items():
        by_id[token] = content.encode("utf-8")
    return by_id


def is_lossless(values: Mapping[str, Any], by_id: Sequence[bytes]) -> bool:
    """Whether every text's ids decode to the text itself: byte-level, nothing normalized, added or dropped."""
    if values.get("normalizer") is not None or values["model"].get("byte_fallback") or not _has_every_byte(by_id):
        return False
    if any(token.get("lstrip") or token.get("rstrip") for token in values["added_tokens"] if not token["special"]):
        return False
    parts = list(_components(values, "pre_tokenizer"))
    return any(part["type"] == "ByteLevel" for part in parts) and all(map(_keeps_text, parts))


def mergeable_ranks(
    values: Mapping[str, Any], by_id: Sequence[bytes], library: tokenizers.Tokenizer
) -> dict[bytes, int] | None:
    """Return the ranks with which tiktoken gives the same ids as the library for every text; None where it may not.

    tiktoken merges any two neighbors whose bytes are a piece, lowest id first; the library merges the listed pairs in
    the order of the list. Both do the same if the list yields each piece once, in the order of the ids, and every piece
    encodes to itself. Proof: take the first merge in which they differ. Its neighbors x and y form a piece t, and the
    merges within xy so far depend on xy alone. So the library, given t, also comes to x, y. As t encodes to itself, the
    library merges x and y too; the pair is in the list, with the rank that tiktoken gives it.
    """
    model = values["model"]
    plain = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    pre_tokenizer = values.get("pre_tokenizer") or {}
    fits = (
        model.get("type", "BPE") == "BPE"
        and is_lossless(values, by_id)
        and plain.items() <= ({"use_regex": True} | pre_tokenizer).items()
        and not any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix"))
        and all(token["special"] for token in values["added_tokens"])
    )
    if not fits:
        return None
    added = {token["id"] for token in values["added_tokens"]}
    ids = {piece: token for piece, token in model["vocab"].items() if token not in added}
    merged = [ids.get("".join(pair), -1) for pair in map(_pair, model["merges"])]
    in_order = all(first < second for first, second in zip([-1, *merged], merged, strict=False))
    if not in_order or len(merged) + 256 != len(ids):
        return None
    for piece, token in ids.items():
        if [found.id for found in library.model.tokenize(piece)] != [token]:
            return None
    return {by_id[token]: token for token in ids.values()}


def same_ids_key(values: Mapping[str, Any], eot_id: int) -> str:
    """Return a string that two files share when they give the same ids, whichever version of the library wrote them."""
    vocabulary = {"vocab": values["model"]["vocab"], "added_tokens": values["added_tokens"]}
    parts = text_to_ids(values) | vocabulary | {"eot_id": eot_id}
    return json.dumps(_without_defaults(parts), sort_keys=True)


def text_to_ids(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what, beside the vocabulary, decides about the ids of a text, in one spelling of the several in use."""
    model = {key: value for key, value in values["model"].items() if key != "vocab"}
    if "merges" in model:
        model["merges"] = [list(_pair(pair)) for pair in model["merges"]]
    model["type"] = _model_type(values)
    pre_tokenizer = _without(values.get("pre_tokenizer"), "trim_offsets")
    parts: dict[str, Any] = _without_defaults(
        {"model": model, "normalizer": values.get("normalizer"), "pre_tokenizer": pre_tokenizer}
    )
    return parts


def special_token(settings: Mapping[str, Any], key: str) -> str | None:
    """Return the token under ``eos_token`` or ``bos_token``: a string, or an object with its content."""
    value = settings.get(key)
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def with_special_tokens(values: Mapping[str, Any], special: Mapping[int, str]) -> dict[str, Any]:
    """Return a tokenizer.json in which the tokens ``special``, by id, are special ones, as ``transformers`` has them.

    A file may hold end-of-text as an ordinary added token, or as a piece alone: its name in a text would become it.
    """
    added = [{**token, "special": token["special"] or token["id"] in special} for token in values["added_tokens"]]
    missing = special.keys() - {token["id"] for token in added}
    ordinary = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added += [{"id": token, "content": special[token], **ordinary, "special": True} for token in sorted(missing)]
    return {**values, "added_tokens": added}


def without_dropout(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json without BPE dropout, with which a text has other ids each time it is encoded."""
    model = values["model"]
    return {**values, "model": {**model, "dropout": None} if model.get("dropout") else model}


def has_special_pieces(values: Mapping[str, Any]) -> bool:
    """Return whether the model may find special tokens' names in a text like other pieces.

    A Unigram does; a BPE does if its merges yield one, or if it looks words up before it merges.
    """
    if _model_type(values) == "Unigram":
        return True
    model = values["model"]
    pieces = {"".join(_pair(pair)) for pair in model.get("merges", [])}
    found = pieces | model["vocab"].keys() if model.get("ignore_merges") else pieces
    return not found.isdisjoint(_special(values))


def without_special_pieces(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json in which no text has the pieces of special tokens; the ids of all others stay."""
    special, model = _special(values), dict(values["model"])
    unreachable = {piece: f"{NONCHARACTER}{piece}" for piece in special}
    if _model_type(values) == "Unigram":
        model["vocab"] = [[unreachable.get(piece, piece), score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {unreachable.get(piece, piece): token for piece, token in model["vocab"].items()}
        pairs = map(_pair, model["merges"])
        model["merges"] = [[one, two] for one, two in pairs if special.isdisjoint((one, two, one + two))]
        unknown = model.get("unk_token")
        model["unk_token"] = unreachable.get(str(unknown), unknown)
    others = [token for token in values["added_tokens"] if not token["special"]]
    return {**values, "model": model, "added_tokens": others, "post_processor": None}


def _special(values: Mapping[str, Any]) -> set[str]:
    return {token["content"] for token in values["added_tokens"] if token["special"]}


def without_text_frame(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json whose ``post_processor`` puts no special token before or after a text."""
    post_processor = values.get("post_processor") or {}
    steps = post_processor.get("processors", [post_processor])
    kept = [step for step in steps if step.get("type") == "ByteLevel"]  # the one kind that adds no token
    return {**values, "post_processor": kept[0] if kept else None}


def _model_type(values: Mapping[str, Any]) -> str:
    """The kind of model; old files leave it out for those that are told by their vocabulary."""
    model = values["model"]
    kind: str = model.get("type") or ("Unigram" if isinstance(model["vocab"], list) else "BPE")
    return kind


def _pieces(vocabulary: Any) -> Iterator[tuple[int, str]]:
    if isinstance(vocabulary, dict):
        yield from ((token, piece) for piece, token in vocabulary.items())
    else:
        yield from enumerate(piece for piece, _ in vocabulary)


def _components(values: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder, those within sequences one by one."""
    part = values.get(key)
    if part is None:
        return
    steps = next((part[name] for name in ("normalizers", "pretokenizers", "decoders") if name in part), None)
    for step in steps if steps is not None else [part]:
        if not isinstance(step, dict):  # which the library reads as an object without names
            raise UserError(f"tokenizer.json: {key} holds {step!r:.50}; expected objects; write the file anew")
        if step.get("type") == "Sequence":
            yield from _components({key: step}, key)
        else:
            yield step


def _is_sentencepiece(part: Mapping[str, Any]) -> bool:
    return part["type"] in ("Metaspace", "ByteFallback") or (
        part["type"] == "Replace" and SPACE in (part.get("content"), part.get("pattern", {}).get("String"))
    )


def _sentencepiece_bytes(piece: str) -> bytes:
    byte = BYTE_PIECE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE, " ").encode("utf-8")


def _has_every_byte(by_id: Sequence[bytes]) -> bool:
    return {bytes([byte]) for byte in range(256)} <= set(by_id)


def _keeps_text(part: Mapping[str, Any]) -> bool:
    if part["type"] == "ByteLevel":
        return not part["add_prefix_space"]
    return part["type"] in ("Digits", "Punctuation", "Split") and part.get("behavior") != "Removed"


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """A pair of a list of merges, which is a string with a space or, in newer files, two strings."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _without(part: Any, key: str) -> Any:
    if isinstance(part, dict):
        return {name: _without(value, key) for name, value in part.items() if name != key}
    return [_without(value, key) for value in part] if isinstance(part, list) else part


def _without_defaults(part: Any) -> Any:
    """Without the keys whose value says nothing, which versions of the library write or leave out."""
    if isinstance(part, dict):
        always = {"use_regex": True} if part.get("type") == "ByteLevel" else {}
        given = {key: value for key, value in part.items() if value not in (None, "", False) and value != []}
        return {key: _without_defaults(value) for key, value in (always | given).items()} | {
            key: part[key] for key in always if key in part
        }
    return [_without_defaults(value) for value in part] if isinstance(part, list) else part
