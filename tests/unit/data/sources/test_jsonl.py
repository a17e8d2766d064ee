"""gpt2lab.data.sources.jsonl, held against json, gzip and plain lists."""

import random

import pytest
import zstandard

from gpt2lab.config import (
    JsonlFilesConfig,
    PrepareConfig,
    UserError,
)
from gpt2lab.data import dataset_folder, load_manifest, prepare
from gpt2lab.data.sources import Problem, jsonl
from tests.unit.data.sources.table_files import BYTES, TEXTS, read, rows, source, write_jsonl


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
@pytest.mark.parametrize("size", [1, 10, 333, 10**6])
def test_every_line_is_read_once_and_in_order(tmp_path, monkeypatch, suffix, size):
    monkeypatch.setattr(jsonl, "CHUNK_BYTES", size)
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", max(size, 8))
    lines = rows(TEXTS)
    lines[-1] = lines[-1].rstrip(b"\n")  # a last line without an end
    lines[5:5] = [b"\n", b"  \r\n"]
    first = write_jsonl(tmp_path / f"a.{suffix}", lines)
    second = write_jsonl(tmp_path / f"b.{suffix}", rows(["last"]))
    files = source("jsonl_files", first, second)
    assert read(files) == [*TEXTS, "last"]
    checksum = 4 * (suffix == "jsonl.zst")  # read after the last line
    assert 0 <= files.size_bytes() - sum(chunk.size for chunk in files.chunks()) <= checksum


BAD_LINES = [
    (b'{"text": "fine"\n', "broken JSON", 'expected a JSON object, found \'{"text": "fine"\''),
    (b"[1]\n", "broken JSON", "expected a JSON object, found list: a list becomes lines by jq"),
    (b"[" * 100_000 + b"\n", "broken JSON", ": a list becomes lines by jq -c '.[]' FILE"),
    (b'{"texts": "x"}\n', "missing column", "expected 'text', found 'texts': name it with data.text_column="),
    (b"{}\n", "missing column", "found no key at all"),
    (b'{"text": null}\n', "not a string", "expected a string under 'text', found NoneType"),
    (b'{"text": "\xff"}\n', "not UTF-8", "byte 10 of the line is not valid UTF-8"),
    (b'{"text": "\\ud800"}\n', "not UTF-8", "half a surrogate pair"),
]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
@pytest.mark.parametrize(("line", "reason", "detail"), BAD_LINES)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, monkeypatch, suffix, line, reason, detail):
    monkeypatch.setattr(jsonl, "CHUNK_BYTES", 50)
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 50)
    lines = rows(TEXTS)
    path = write_jsonl(tmp_path / f"a.{suffix}", [*lines[:120], b"\n", line, *lines[120:]])
    documents = read(source("jsonl_files", path))
    (problem,) = [document for document in documents if isinstance(document, Problem)]
    assert problem.reason == reason
    assert problem.message.startswith(f"{path}:122: ")
    assert detail in problem.message
    assert "\n" not in problem.message
    assert [document for document in documents if document is not problem] == TEXTS


def test_a_file_packed_in_another_way_is_refused(tmp_path):
    (tmp_path / "a.jsonl.xz").write_bytes(b"\xfd7zXZ\0")
    with pytest.raises(
        UserError, match=r"a\.jsonl\.xz: expected JSON lines, plain, \.gz or \.zst; .*: unpack the file"
    ):
        read(source("jsonl_files", tmp_path / "a.jsonl.xz"))


def test_a_zst_file_with_a_large_window_is_read(tmp_path):
    """As ``zstd --long=31`` writes them; the library refuses a window above 2**27 unless it is told otherwise."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=31)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # of unknown size
    (tmp_path / "a.jsonl.zst").write_bytes(compressor.compress(b"".join(rows(TEXTS))) + compressor.flush())
    assert read(source("jsonl_files", tmp_path / "a.jsonl.zst")) == TEXTS


def test_another_column(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", rows(["x"], key="content"))
    assert read(source("jsonl_files", path, text_column="content")) == ["x"]


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst"])
@pytest.mark.parametrize("damage", ["half", "no end", "flipped"])
def test_damaged_compression_is_a_problem_after_what_could_be_read(tmp_path, monkeypatch, suffix, damage):
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 100)
    generator = random.Random(0)
    texts = ["".join(generator.choices("abcdefghij ", k=60)) for _ in range(300)]
    path = write_jsonl(tmp_path / f"a.{suffix}", rows(texts))
    content = path.read_bytes()
    damaged = {
        "half": content[: len(content) // 2],
        "no end": content[:-3],
        "flipped": content[:400] + b"x" * 9 + content[409:],
    }
    path.write_bytes(damaged[damage])
    after = write_jsonl(tmp_path / "b.jsonl", rows(["after"]))
    *documents, problem, last = read(source("jsonl_files", path, after))
    assert problem.reason == "damaged file"
    assert f"{path}: the compressed data is damaged or ends early after line" in problem.message
    assert last == "after"
    if damage != "flipped":  # the checksum at the end of a frame comes after its text
        assert documents == texts[: len(documents)]


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst"])
def test_what_comes_before_damage_in_a_small_file_is_read(tmp_path, suffix):
    path = write_jsonl(tmp_path / f"a.{suffix}", rows(TEXTS))
    content = path.read_bytes()
    for damaged in (content[:-3], content + b"not compressed"):
        path.write_bytes(damaged)
        *documents, problem = read(source("jsonl_files", path))
        assert documents == TEXTS
        assert f"is damaged or ends early after line {len(TEXTS) + 1} (" in problem.message


def test_problems_stop_or_are_counted(tmp_path):
    lines = [line for line, _, _ in BAD_LINES]
    path = write_jsonl(tmp_path / "a.jsonl", [*rows(["", *TEXTS[:100]]), *lines, *rows(TEXTS[100:]), *lines])
    data = JsonlFilesConfig(name="s", root=str(tmp_path / "data"), files=[str(path)], val_fraction=0.3)
    with pytest.raises(
        UserError, match=r"a\.jsonl:\d+: expected.*; or leave such documents out with data\.on_error=skip"
    ):
        prepare(data, PrepareConfig(), BYTES)
    assert not (tmp_path / "data" / "s").exists()
    data.on_error = "skip"
    manifest = prepare(data, PrepareConfig(), BYTES)
    assert manifest.skipped == {"broken JSON": 6, "empty": 1, "missing column": 4, "not UTF-8": 4, "not a string": 2}
    assert sum(split.documents for split in manifest.splits.values()) == 200


@pytest.mark.parametrize("piece_bytes", [300, 10**6])
def test_copies_are_left_out_and_counted(tmp_path, monkeypatch, piece_bytes):
    monkeypatch.setattr(jsonl, "CHUNK_BYTES", piece_bytes)
    texts = [*TEXTS, *TEXTS[::3], TEXTS[0], TEXTS[0]]
    random.Random(1).shuffle(texts)
    path = write_jsonl(tmp_path / "a.jsonl", rows(texts))
    data = JsonlFilesConfig(root=str(tmp_path), files=[str(path)], val_fraction=0.3, deduplicate=True)
    manifest = prepare(data, PrepareConfig(), BYTES)
    assert manifest.skipped == {"duplicate": len(texts) - len(TEXTS)}
    assert sum(split.documents for split in manifest.splits.values()) == len(TEXTS)
    assert sum(split.bytes for split in manifest.splits.values()) == sum(len(text.encode()) for text in TEXTS)
    assert load_manifest(dataset_folder(data, BYTES)).deduplicate
