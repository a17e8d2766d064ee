"""What is read for an evaluation: a UTF-8 file, or rows of named fields from JSON lines or the Hugging Face Hub."""

import codecs
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from gpt2lab.config import UserError
from gpt2lab.hub import fetch_or_explain

Example = dict[str, Any]

BLOCK_BYTES = 2**20


class HubDatasetRef(NamedTuple):
    """A dataset on the Hugging Face Hub."""

    path: str
    subset: str | None
    revision: str | None
    split: str

    @property
    def name(self) -> str:
        """Its path and subset, for messages."""
        return "/".join(filter(None, (self.path, self.subset)))

    def describe(self) -> dict[str, str | None]:
        """For ``eval.json``."""
        return self._asdict()


def read_utf8(path: Path, first_byte: int = 0, last_byte: int | None = None) -> bytes:
    """The bytes [first_byte, last_byte) of a UTF-8 file, without a byte order mark.

    A character that a cut would divide is left out.

    Raises:
        UserError: the file is missing, ends before ``first_byte`` or ``last_byte``, is blank there, or not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; expected a UTF-8 text")
    size = path.stat().st_size
    if first_byte and first_byte >= size:
        raise UserError(
            f"{path} has {size} bytes, eval.corpus.first_byte={first_byte} is beyond them: give the whole "
            "file, or type eval.corpus.first_byte=0 if it is the part to score"
        )
    if last_byte is not None and last_byte > size:
        raise UserError(
            f"{path} has {size} bytes, eval.corpus.last_byte={last_byte} is beyond them: give the whole file, or type "
            "eval.corpus.last_byte=null for all to its end"
        )
    with path.open("rb") as file:
        file.seek(first_byte)
        part = file.read() if last_byte is None else file.read(last_byte - first_byte)
    if len(part) < size:
        part = _whole_characters(part)
    if part.startswith(codecs.BOM_UTF8):
        part = part[len(codecs.BOM_UTF8) :]
    decoder = codecs.getincrementaldecoder("utf-8")()
    blank = True
    try:
        for begin in range(0, len(part), BLOCK_BYTES):
            checked = begin - len(decoder.getstate()[0])
            text = decoder.decode(part[begin : begin + BLOCK_BYTES], final=begin + BLOCK_BYTES >= len(part))
            blank = blank and (not text or text.isspace())
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8, byte {first_byte + checked + error.start} is not") from None
    if blank:
        raise UserError(f"{path}: expected text, {'there is none but white space' if size else 'the file is empty'}")
    return part


def read_json_lines(path: Path, fields: tuple[str, ...], limit: int | None = None) -> Iterator[Example]:
    """The rows of a file of JSON objects, one per line, that have all of ``fields``; ``limit``: the first ones only.

    Raises:
        UserError: the file is missing, empty, or a line is not such an object; the line is named.
    """
    rows = 0
    for number, line in enumerate(io.BytesIO(read_utf8(path)), 1):
        if rows == limit:
            break
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: line {number} is not JSON ({error}); expected an object with {_list(fields)}"
            ) from None
        missing = [field for field in fields if not isinstance(row, dict) or field not in row]
        if missing:
            raise UserError(f"{path}: line {number} has no field {missing[0]}; expected an object with {_list(fields)}")
        rows += 1
        yield row


def has_utf8(text: str) -> bool:
    """Whether a string has a UTF-8 form: JSON can hold half a character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def fetch_rows(place: HubDatasetRef, fields: tuple[str, ...], instead: str, limit: int | None = None) -> list[Example]:
    """The rows of a dataset on the Hub, with ``fields`` alone; ``limit``: the first ones only.

    Args:
        place: which.
        fields: columns that it must have.
        instead: what the user can do where it cannot be read or fetched.
        limit: rows to take; None: all.

    Raises:
        UserError: the package ``datasets`` is not installed, there is no network, no such dataset, or no such column.
    """

    def load() -> Any:
        import datasets  # noqa: PLC0415

        return datasets.load_dataset(place.path, place.subset, split=place.split, revision=place.revision)

    return _chosen(fetch_or_explain(place.path, load, instead), place, fields, instead, limit)


def fetch_subsets(
    place: HubDatasetRef, subsets: Sequence[str], fields: tuple[str, ...], instead: str, limit: int | None = None
) -> dict[str, list[Example]]:
    """The rows of many subsets of a dataset on the Hub, by ``HubDatasetRef.name``; ``limit``: the first ones of each.

    The whole repository is fetched first, into the Hub's cache. To load one subset after the other from the Hub takes
    several requests for each of them, also where all of it is cached.

    Args:
        place: which; its subset is not used.
        subsets: of the dataset, in order.
        fields: columns that each must have.
        instead: what the user can do where it cannot be read or fetched.
        limit: rows to take of each; None: all.

    Raises:
        UserError: as ``fetch_rows``.
    """

    def load() -> dict[HubDatasetRef, Any]:
        import datasets  # noqa: PLC0415
        from huggingface_hub import snapshot_download  # noqa: PLC0415

        folder = snapshot_download(place.path, repo_type="dataset", revision=place.revision)
        with _progress_bars_off():
            return {
                place._replace(subset=subset): datasets.load_dataset(folder, subset, split=place.split)
                for subset in subsets
            }

    tables = fetch_or_explain(place.path, load, instead)
    return {of.name: _chosen(table, of, fields, instead, limit) for of, table in tables.items()}


@contextmanager
def _progress_bars_off() -> Iterator[None]:
    """Leave out the bars of ``datasets``, one for each small file."""
    import datasets  # noqa: PLC0415

    were_off = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            datasets.enable_progress_bars()


def _chosen(
    table: Any, place: HubDatasetRef, fields: tuple[str, ...], instead: str, limit: int | None
) -> list[Example]:
    """The first rows of a table of ``datasets``, with ``fields`` alone."""
    missing = [field for field in fields if field not in table.column_names]
    if missing:
        raise UserError(f"{place.name}: has no column {missing[0]}, only {_list(table.column_names)}: {instead}")
    chosen = table.select_columns(list(fields))
    return list(chosen.select(range(min(limit, len(chosen)))) if limit else chosen)


def _whole_characters(part: bytes) -> bytes:
    """``part`` without the bytes of characters that begin before it or end after it."""
    begin = next((i for i, byte in enumerate(part[:4]) if byte & 0xC0 != 0x80), 0)
    for length in range(1, min(4, len(part)) + 1):  # back to the last character's first byte
        lead = part[-length]
        if lead & 0xC0 != 0x80:
            wanted = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return part[begin : len(part) - length] if wanted > length else part[begin:]
    return part[begin:]


def _list(names: Any) -> str:
    return ", ".join(names)
