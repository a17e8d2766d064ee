"""Large inputs in bounded memory and time, measured on small ones: the peak, or the number of slow calls."""

import gzip
import os
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from gpt2lab.config import CorpusConfig, JsonlFilesConfig, TextFilesConfig
from gpt2lab.data import open_source
from gpt2lab.data.sources import Problem, base, jsonl
from gpt2lab.evaluation.corpora import chunks
from gpt2lab.evaluation.corpora.chunks import TokenBuffer, count_words, encode_chunks, text_chunks
from gpt2lab.evaluation.corpora.formats import open_corpus
from gpt2lab.evaluation.perplexity.protocols import Stream
from gpt2lab.evaluation.windows import Windows, sliding_windows
from gpt2lab.tokenizers import load_tokenizer

MEGABYTE = 2**20
BYTES = load_tokenizer("bytes")


def peak_of(function):
    """The result of a call and the most bytes that it held at once."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("line", ["words in a line ", "é🙂 words "], ids=["ascii", "any character"])
def test_memory_of_a_long_text_is_a_few_bytes_for_each_of_its_own(tmp_path, line):
    def plan(n_bytes):
        (tmp_path / "t.txt").write_bytes(line.encode() * (n_bytes // len(line.encode())))
        config = CorpusConfig(format="text", file=str(tmp_path / "t.txt"))
        corpus = open_corpus(config, SimpleNamespace())
        return Stream().plan(corpus, BYTES, 1024, None, str)

    small, large = (peak_of(lambda size=size: plan(size * MEGABYTE))[1] for size in (8, 16))
    assert (large - small) / (8 * MEGABYTE) < 5  # the text once, its ids with two bytes each, and room to grow


def test_a_window_takes_24_bytes():
    windows, peak = peak_of(lambda: Windows(sliding_windows(1_000_000, 8, 8)))
    assert len(windows) == 125_000
    assert list(windows[-2:]) == list(sliding_windows(1_000_000, 8, 8))[-2:]
    assert peak < 80 * len(windows)


@pytest.mark.parametrize("name", ["gpt2", "bytes"])
def test_chunks_have_the_ids_and_words_of_the_text(monkeypatch, name):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    tokenizer = load_tokenizer(name)
    parts = [
        "a",
        "word",
        "é",
        "字",
        "7",
        "42",
        ".",
        "'s",
        "_",
        " ",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        "\u00a0",
        "\x1c",
        "\u2028",
    ]
    for seed in range(200):
        text = "".join(np.random.default_rng(seed).choice(parts, 400))
        content = text.encode()
        found = list(text_chunks(content))
        assert "".join(found) == text
        assert len(found) > 2
        assert np.concatenate(list(encode_chunks(content, tokenizer))).tolist() == tokenizer.encode(text)
        assert count_words(content) == len(text.split())


def test_a_text_without_a_place_to_cut_is_cut_all_the_same(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    monkeypatch.setattr(chunks, "LONGEST_CHUNK", 200)
    content = ("字" * 1000 + " end").encode()
    assert max(map(len, text_chunks(content))) < 200 + 64
    assert "".join(text_chunks(content)).encode() == content
    assert count_words(content) == 2


def test_a_token_buffer_grows():
    buffer = TokenBuffer(300)
    for start in range(0, 1000, 100):
        buffer.append(np.arange(start, start + 100) % 300)
    assert buffer.tokens_n.tolist() == [i % 300 for i in range(1000)]
    assert buffer.tokens_n.dtype == np.uint16


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_jsonl_line_without_an_end_takes_no_more_memory_than_the_longest_line(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(jsonl, "LINE_LIMIT_BYTES", MEGABYTE)
    path = tmp_path / f"t.jsonl{suffix}"
    with gzip.open(path, "wb", 1) if suffix else path.open("wb") as file:
        file.write(b'{"text": "first"}\n' + b'{"text": "')
        for _ in range(24):
            file.write(b"x" * MEGABYTE)
        file.write(b'"}\n{"text": "last"}')
    source = open_source(JsonlFilesConfig(files=[str(path)]))

    def read():
        return [document for chunk in source.chunks() for document in source.read(chunk)]

    (first, problem, last), peak = peak_of(read)
    assert (first, last) == ("first", "last")
    assert isinstance(problem, Problem)
    assert problem.message.startswith(f"{path}:2: the line has more than")
    assert peak < 10 * MEGABYTE


def test_millions_of_empty_documents_are_many_chunks(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\n" * MEGABYTE)
    files = TextFilesConfig(files=[str(tmp_path / "t.txt")], delimiter="\n", min_document_bytes=0)
    source = open_source(files)
    spans, peak = peak_of(lambda: [len(chunk.spans) for chunk in source.chunks()])
    assert sum(spans) == MEGABYTE + 1
    assert max(spans) == base.CHUNK_SPANS
    assert peak < 32 * MEGABYTE


def test_a_hundred_thousand_files_are_neither_hashed_nor_looked_up_one_by_one(tmp_path, monkeypatch):
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    source = open_source(TextFilesConfig(files=[str(tmp_path / "*.txt")]))
    recorded = source.describe()
    (tmp_path / "7.txt").write_text("other 7")
    assert source.difference(recorded).endswith("7.txt has changed since")
    (tmp_path / "7.txt").write_text("text 7")
    assert source.difference(recorded) is None
    monkeypatch.setattr(base, "HASH_LIMIT_FILES", 39)
    monkeypatch.setattr(base, "file_sha256", lambda path: pytest.fail(f"{path} was hashed"))
    looked_up = []
    real_path = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: looked_up.append(path) or real_path(path))
    assert source.difference(recorded) is None
    assert len(looked_up) <= 2
    (tmp_path / "7.txt").write_text("longer text")
    assert source.difference(recorded).endswith("7.txt has changed since")
