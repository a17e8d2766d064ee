"""Tokenizers of the Hugging Face library ``tokenizers``: any tokenizer.json whose ids stand for bytes.

    tokenizer.json + tokenizer_config.json -> the library's tokenizer
                                           -> the bytes of each id (byte-level BPE, or SentencePiece's pieces)
                                           -> tiktoken instead of the library, where it provably gives the same ids

Text is encoded without the special tokens that the file would add, and special tokens' names in a text stay text.
End-of-text and the begin token are special whether the file marks them or not. BPE dropout is left out: a text has one
sequence of ids.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from gpt2lab.config import UserError, one_line
from gpt2lab.config.tokenizer import TOKENIZER_JSON, find_tokenizer_json
from gpt2lab.files import read_json
from gpt2lab.tokenizers.base import Tokenizer, replace_surrogates
from gpt2lab.tokenizers.byte_level import TiktokenEncoder, as_json
from gpt2lab.tokenizers.tokenizer_json import (
    has_special_pieces,
    is_lossless,
    mergeable_ranks,
    piece_bytes_by_id,
    same_ids_key,
    special_token,
    with_special_tokens,
    without_dropout,
    without_special_pieces,
    without_text_frame,
)

log = logging.getLogger(__name__)

TOKENIZER_CONFIG = "tokenizer_config.json"


class HuggingFaceTokenizer(Tokenizer):
    """A tokenizer.json."""

    def __init__(self, files: Mapping[str, str], name: str | None = None, where: str = TOKENIZER_JSON) -> None:
        """Build the tokenizer of ``files``.

        Args:
            files: content of tokenizer.json, and of tokenizer_config.json, which names end-of-text.
            name: names the folder of its prepared datasets; None: huggingface and the beginning of its fingerprint.
            where: the file to name in errors.

        Raises:
            UserError: the file is broken, of a kind whose ids stand for no bytes, or names no end-of-text.
        """
        self._files, self._where = dict(files), where
        library = _load_library_tokenizer(files[TOKENIZER_JSON], where)
        values: dict[str, Any] = json.loads(files[TOKENIZER_JSON])
        settings: dict[str, Any] = json.loads(files[TOKENIZER_CONFIG])
        self._bytes = piece_bytes_by_id(values, where)
        self.vocab_size = len(self._bytes)
        self.eot_id = _special_id(library, settings, "eos_token", where)
        has_bos = special_token(settings, "bos_token") is not None
        self._bos_id = _special_id(library, settings, "bos_token", where) if has_bos else self.eot_id
        special = {token: str(library.id_to_token(token)) for token in (self.eot_id, self._bos_id)}
        as_written, values = values, without_dropout(with_special_tokens(values, special))
        if values != as_written:
            self._files[TOKENIZER_JSON] = as_json(values)
            library = _load_library_tokenizer(self._files[TOKENIZER_JSON], where)
        self.adds_bos = self._bos_id != self.eot_id and library.encode("").ids[:1] == [self._bos_id]
        self._special_ids = [token["id"] for token in values["added_tokens"] if token["special"]]
        self.lossless = is_lossless(values, self._bytes)
        self.fingerprint = hashlib.sha256(same_ids_key(values, self.eot_id).encode()).hexdigest()
        self.name = name or f"huggingface_{self.fingerprint[:8]}"
        if has_special_pieces(values):
            library = _load_library_tokenizer(json.dumps(without_special_pieces(values)), where)
        self._library = library
        ranks = mergeable_ranks(values, self._bytes, library)
        self.encoder: TiktokenEncoder | LibraryEncoder = (
            TiktokenEncoder(ranks) if ranks is not None else LibraryEncoder(self._library)
        )
        self.splits_at_white_space = ranks is not None

    @property
    def bos_id(self) -> int:
        """See ``Tokenizer.bos_id``."""
        return self._bos_id

    @property
    def overrides(self) -> tuple[str, ...]:
        """See ``Tokenizer.overrides``."""
        return ("tokenizer=huggingface", f"tokenizer.path={self._where}")

    @property
    def files(self) -> Mapping[str, str]:
        """See ``Tokenizer.files``."""
        return self._files

    def with_end_of_text_first(self) -> "HuggingFaceTokenizer":
        """Return this tokenizer for models that see end-of-text before each document, as gpt2lab trains them.

        Its files put no other token around a text, and ``transformers`` takes them as they are: the classes of some
        models, such as Llama's, put their begin token first whatever tokenizer.json says.
        """
        settings = json.loads(self._files[TOKENIZER_CONFIG])
        own = {key: value for key, value in settings.items() if key not in ("add_bos_token", "add_eos_token")}
        own |= {"bos_token": settings["eos_token"], "tokenizer_class": "PreTrainedTokenizerFast"}
        values = without_text_frame(json.loads(self._files[TOKENIZER_JSON]))
        files = {TOKENIZER_JSON: as_json(values), TOKENIZER_CONFIG: as_json(own)}
        return HuggingFaceTokenizer(files, where=self._where)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the files: the library's own pickle forgets that special tokens in a text are text."""
        return type(self), (self._files, self.name, self._where)

    def encode(self, text: str) -> list[int]:
        """See ``Tokenizer.encode``."""
        return self.encoder.encode(text)

    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """See ``Tokenizer.encode_array``."""
        return self.encoder.encode_array(text)

    def id_bytes(self, token: int) -> bytes:
        """See ``Tokenizer.id_bytes``."""
        return self._bytes[token]

    def hugging_face_files(self) -> Mapping[str, str]:
        """See ``Tokenizer.hugging_face_files``."""
        return self._files

    def token_lengths(self) -> NDArray[np.int64]:
        """See ``Tokenizer.token_lengths``; no special token is text."""
        lengths = np.array(list(map(len, self._bytes)), dtype=np.int64)
        lengths[self._special_ids] = 0
        return lengths

    def encode_with_lengths(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See ``Tokenizer.encode_with_lengths``.

        Where text is normalized or a space is put before it, the library says which characters each id comes from. Of
        several ids for one character the first one covers it; characters that are dropped count to the next id.
        """
        if self.lossless:
            return super().encode_with_lengths(text)
        text = replace_surrogates(text)
        encoding = self._library.encode(text, add_special_tokens=False)
        bytes_before = np.cumsum([0, *(len(character.encode("utf-8")) for character in text)])
        ends_n = bytes_before[np.array([end for _, end in encoding.offsets], dtype=np.int64)]
        ends_n[-1:] = bytes_before[-1]
        covered_n = np.maximum.accumulate(ends_n)
        return np.array(encoding.ids, dtype=np.int64), np.diff(covered_n, prepend=0)


class LibraryEncoder:
    """Encoding by the library itself."""

    def __init__(self, library: tokenizers.Tokenizer) -> None:
        self.library = library

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``."""
        ids: list[int] = self.library.encode(replace_surrogates(text), add_special_tokens=False).ids
        return ids

    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """Return the ids of ``text`` as an array."""
        return np.array(self.encode(text), dtype=np.uint32)


def read_tokenizer(path: str) -> HuggingFaceTokenizer:
    """Return the tokenizer of a tokenizer.json, or of the directory that holds it.

    Its end-of-text is the ``eos_token`` of tokenizer_config.json or special_tokens_map.json beside the file; else the
    token of ``eos_token_id`` in config.json or generation_config.json. The same goes for ``bos_token``. A warning says
    that BPE dropout is left out.

    Raises:
        UserError: the file is missing, broken, of a kind that is not read, or there is no end-of-text.
    """
    file = find_tokenizer_json(path)
    try:
        content = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"tokenizer.path={file}: not UTF-8 ({error}); expected a tokenizer.json") from None
    library = _load_library_tokenizer(content, str(file))
    if dropout := getattr(library.model, "dropout", None):
        log.warning("%s: its BPE dropout of %g is left out, so that a text always has the same ids", file, dropout)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | _json_beside(file, TOKENIZER_CONFIG)
    found = settings | find_special_tokens(file, library.id_to_token)
    return HuggingFaceTokenizer({TOKENIZER_JSON: content, TOKENIZER_CONFIG: as_json(found)}, where=str(file))


def find_special_tokens(
    file: Path, token_of_id: Callable[[int], str | None], keys: Sequence[str] = ("bos_token", "eos_token")
) -> dict[str, str]:
    """Return the tokens ``keys`` where the files beside ``file`` name them, as ``read_tokenizer`` says."""
    named = [_json_beside(file, TOKENIZER_CONFIG), _json_beside(file, "special_tokens_map.json")]
    by_id = _json_beside(file, "generation_config.json") | _json_beside(file, "config.json")
    found: dict[str, str] = {}
    for key in keys:
        tokens = [special_token(settings, key) for settings in named]
        token = next((token for token in tokens if token), None) or _token_of_id(token_of_id, by_id, f"{key}_id")
        if token is not None:
            found[key] = token
    return found


def _load_library_tokenizer(content: str, where: str) -> tokenizers.Tokenizer:
    try:
        library = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises plain Exception
        raise UserError(
            f"tokenizer.path={where}: the tokenizers library cannot read it ({one_line(error)}): fetch it again, or "
            "write it anew with transformers: AutoTokenizer.from_pretrained(NAME).save_pretrained(DIR)"
        ) from error
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = True
    return library


def _special_id(library: tokenizers.Tokenizer, settings: Mapping[str, Any], key: str, where: str) -> int:
    content = special_token(settings, key)
    token: int | None = library.token_to_id(content) if content is not None else None
    if token is None:
        raise UserError(
            f"{where}: no end-of-text id: expected {key} in tokenizer_config.json or special_tokens_map.json beside "
            f"it, or its id in config.json; found {content!r}"
        )
    return token


def _json_beside(file: Path, name: str) -> dict[str, Any]:
    path = file.with_name(name)
    return read_json(path) if path.is_file() else {}


def _token_of_id(token_of_id: Callable[[int], str | None], settings: Mapping[str, Any], key: str) -> str | None:
    value = settings.get(key)
    first = value[0] if isinstance(value, list) and value else value
    return token_of_id(first) if isinstance(first, int) and first >= 0 else None
