"""JSONL: one JSON object per line, plain or compressed (.gz, .zst).

Workers read ranges of bytes of a plain file. A compressed file can only be read from its beginning; the main process
reads it once and sends the text to the workers, which takes a small part of the time of tokenizing.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gpt2lab.config import UserError, not_installed
from gpt2lab.config.data import JsonlFilesConfig
from gpt2lab.data.sources.base import CHUNK_BYTES, Chunk, FileSource, Problem, Span

COMPRESSED = (".gz", ".zst")
BLOCK_BYTES = 1024**2
LINE_LIMIT_BYTES = 64 * 1024**2
"""A line is one document, which is held in memory in several forms"""
SHOWN_CHARACTERS = 60
DAMAGED = (EOFError, OSError, zlib.error)
"""raised for compressed data that is damaged or ends early"""
LARGEST_WINDOW = 2**31
"""bytes that a .zst file may refer back to: what ``zstd --long=31`` writes; the library's own limit is 2**27"""


class JsonlFiles(FileSource):
    """JSONL files; a document is the string under ``data.text_column`` of a line."""

    suffix = ".jsonl"

    def __init__(self, config: JsonlFilesConfig) -> None:
        super().__init__(config)
        self.text_column = config.text_column

    def settings(self) -> dict[str, Any]:
        """See ``FileSource.settings``."""
        return {"text_column": self.text_column}

    def chunks(self) -> Iterator[Chunk]:
        """See ``Source.chunks``."""
        for path in self.files():
            yield from line_chunks(path)

    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """See ``Source.read``."""
        return read_lines(chunk, self.text_column)


def line_chunks(path: Path) -> Iterator[Chunk]:
    """The chunks of a file: ranges of bytes, or the lines themselves of a compressed one.

    Raises:
        UserError: the file is packed in a way that is not read.
    """
    if path.suffix in (".bz2", ".xz", ".zip"):
        raise UserError(f"{path}: expected JSON lines, plain, .gz or .zst; found {path.suffix}: unpack the file first")
    if path.suffix in COMPRESSED:
        yield from compressed_chunks(path)
        return
    size = path.stat().st_size
    for begin in range(0, size, CHUNK_BYTES):
        end = min(begin + CHUNK_BYTES, size)
        yield Chunk((Span(str(path), begin, end),), end - begin)


def read_lines(chunk: Chunk, column: str) -> Iterator[str | Problem]:
    """The texts of the lines of a chunk, or a ``Problem`` in place of one; blank lines are ignored."""
    if chunk.problem:
        yield chunk.problem
        return
    for position, line in chunk_lines(chunk):
        if line.isspace():
            continue
        try:
            if len(line) > LINE_LIMIT_BYTES:
                raise LineError("line too long", TOO_LONG)
            yield text_of(line, column)
        except LineError as error:
            reason, detail = error.args
            span = chunk.spans[0]
            number = position if chunk.content is not None else line_number(span.path, position)
            yield Problem(reason, f"{span.path}:{number}: {detail}")


TOO_LONG = (
    f"the line has more than {LINE_LIMIT_BYTES // 1024**2} MiB; expected one JSON object per line; cut the file at its "
    "documents"
)


class LineError(Exception):
    """A line without a document: reason and detail."""


def text_of(line: bytes, column: str) -> str:
    """The text of a line; a ``LineError`` if there is none."""
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        raise LineError("not UTF-8", f"byte {error.start} of the line is not valid UTF-8") from None
    except (ValueError, RecursionError) as error:
        shown = line[:SHOWN_CHARACTERS].decode("utf-8", "replace").strip()
        raise LineError("broken JSON", f"expected a JSON object, found {shown!r} ({error}){of_a_list(line)}") from None
    if not isinstance(row, dict):
        raise LineError("broken JSON", f"expected a JSON object, found {type(row).__name__}{of_a_list(line)}")
    if column not in row:
        found = ", ".join(map(repr, row)) or "no key at all"
        raise LineError("missing column", f"expected {column!r}, found {found}: name it with data.text_column=")
    text = row[column]
    if not isinstance(text, str):
        raise LineError("not a string", f"expected a string under {column!r}, found {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise LineError("not UTF-8", f"the string under {column!r} holds half a surrogate pair") from None
    return text


def of_a_list(line: bytes) -> str:
    """What to do with a file that is one list of objects, which a line may be the beginning of."""
    return ": a list becomes lines by jq -c '.[]' FILE" if line.lstrip().startswith(b"[") else ""


def chunk_lines(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    """The lines of a chunk, each with its number (compressed files) or the byte it begins at (plain ones)."""
    span = chunk.spans[0]
    if chunk.content is not None:
        yield from enumerate(io.BytesIO(chunk.content), start=span.begin)
        return
    with Path(span.path).open("rb", buffering=BLOCK_BYTES) as file:
        position = span.begin
        if position:  # the line that contains the byte before belongs to the chunk before
            file.seek(position - 1)
            position -= 1
            while position < span.end and (part := file.readline(BLOCK_BYTES)):
                position += len(part)
                if part.endswith(b"\n"):
                    break
        while position < span.end and (line := file.readline(LINE_LIMIT_BYTES + 1)):
            yield position, line
            position += len(line)
            while len(line) > LINE_LIMIT_BYTES and not line.endswith(b"\n"):  # the rest of a line that is too long
                line = file.readline(LINE_LIMIT_BYTES + 1) or b"\n"
                position += len(line)


def line_number(path: str, position: int) -> int:
    """The number, from 1, of the line that begins at byte ``position``; reads the file up to there."""
    number = 1
    with Path(path).open("rb") as file:
        while position > 0 and (block := file.read(min(BLOCK_BYTES, position))):
            number += block.count(b"\n")
            position -= len(block)
    return number


def compressed_chunks(path: Path) -> Iterator[Chunk]:
    """Chunks that carry their lines; a file that is damaged or ends early is a ``Problem`` in its last chunk."""
    line, done = 1, 0
    with path.open("rb") as raw:
        contents = whole_lines(zst_blocks(path, raw) if path.suffix == ".zst" else gz_blocks(raw))
        while True:
            try:
                content = next(contents, b"")
            except DAMAGED as error:
                message = f"{path}: the compressed data is damaged or ends early after line {line} ({error})"
                yield Chunk((Span(str(path), line, line),), 0, problem=Problem("damaged file", message))
                return
            if not content:
                return
            first, line = line, line + content.count(b"\n")
            size, done = raw.tell() - done, raw.tell()
            yield Chunk((Span(str(path), first, line),), size, content=content)


def whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks that are cut at lines; of a line that is too long, the end is left out.

    The blocks of an unfinished line are joined once, when its end is there.
    """
    unfinished: list[bytes] = []
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*unfinished, block[:end]])
            unfinished = []
        if sum(map(len, unfinished)) <= LINE_LIMIT_BYTES:
            unfinished.append(block[end:])
    if rest := b"".join(unfinished):
        yield rest


def gz_blocks(raw: IO[bytes]) -> Iterator[bytes]:
    """The decompressed content of a .gz file; what comes before damage is yielded before the error is raised."""
    with gzip.open(raw) as file:
        block = bytearray()
        try:
            while part := file.read1(BLOCK_BYTES - len(block)):
                block += part
                if len(block) == BLOCK_BYTES:
                    yield bytes(block)
                    block.clear()
        except DAMAGED:
            yield bytes(block)
            raise
        yield bytes(block)


def zst_blocks(path: Path, raw: IO[bytes]) -> Iterator[bytes]:
    """The decompressed content of a .zst file, frame by frame; errors are ``EOFError`` and ``OSError``."""
    try:
        import zstandard  # noqa: PLC0415
    except ImportError:
        raise not_installed(str(path), "zstandard", "zstandard") from None
    frame = None
    while part := raw.read(BLOCK_BYTES // 8):
        while part:
            frame = frame or zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()
            try:
                block = frame.decompress(part)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from None
            if block:
                yield block
            part = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the last frame has no end")
