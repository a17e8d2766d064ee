"""JSONL and Parquet files for the tests, and the texts in them."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from gpt2lab.config import (
    DATA_SOURCES,
)
from gpt2lab.data import open_source
from gpt2lab.tokenizers import load_tokenizer

BYTES = load_tokenizer("bytes")
TEXTS = [f"{i} " + "wort söz 語\n\r\x0b\u2028" * (i * 7 % 11) for i in range(200)]


def source(kind, *files, **settings):
    if files:
        settings["files"] = [str(file) for file in files]
    return open_source(DATA_SOURCES[kind](**settings))


def read(source):
    return [document for chunk in source.chunks() for document in source.read(chunk)]


def write_jsonl(path, lines):
    content = b"".join(lines)
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":  # two frames, as tools that append leave them
        half = len(content) // 2
        content = b"".join(
            map(zstandard.ZstdCompressor(write_checksum=True).compress, (content[:half], content[half:]))
        )
    path.write_bytes(content)
    return path


def rows(texts, key="text"):
    return [json.dumps({"id": i, key: text}, ensure_ascii=False).encode() + b"\n" for i, text in enumerate(texts)]


def write_parquet(path, texts, row_group_size=37, column="text"):
    pq.write_table(pa.table({"id": range(len(texts)), column: texts}), path, row_group_size=row_group_size)
    return path
