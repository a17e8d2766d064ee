"""gpt2lab.data.sources for JSONL, Parquet and the Hub, held against json, gzip, pyarrow and plain lists."""

import dataclasses
import gzip
import hashlib
import json
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from gpt2lab.config import (
    DATA_SOURCES,
    HubConfig,
    JsonlFilesConfig,
    ParquetFilesConfig,
    PrepareConfig,
    PythonStdlibConfig,
    UserError,
)
from gpt2lab.data import dataset_folder, load_manifest, open_or_prepare, open_source, prepare
from gpt2lab.data.preparation.duplicates import SeenDocuments
from gpt2lab.data.sources import Problem, jsonl
from gpt2lab.data.sources.hub import cached_sha256
from gpt2lab.data.sources.parquet import RowRanges, row_chunks
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


# ---------------------------------------------------------------------------------------------------------------- JSONL


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
    (b"[1]\n", "broken JSON", "expected a JSON object, found list"),
    (b"[" * 100_000 + b"\n", "broken JSON", "expected a JSON object"),
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


def test_first_of_their_kind_as_a_set_would_have_it(tmp_path):
    generator, known, seen = random.Random(2), set(), SeenDocuments(tmp_path / "digests")
    with seen:
        for _ in range(200):
            digests = [bytes([generator.randrange(3), *[0] * 14, generator.randrange(99)]) for _ in range(9)]
            expected = [digest not in known and digest not in digests[:i] for i, digest in enumerate(digests)]
            assert seen.add(b"".join(digests)).tolist() == expected
            known.update(digests)


# -------------------------------------------------------------------------------------------------------------- Parquet


def write_parquet(path, texts, row_group_size=37, column="text"):
    pq.write_table(pa.table({"id": range(len(texts)), column: texts}), path, row_group_size=row_group_size)
    return path


@pytest.mark.parametrize("row_group_size", [1, 37, 1000])
@pytest.mark.parametrize("piece_bytes", [10, 500, 10**7])
def test_every_row_is_read_once_and_in_order(tmp_path, monkeypatch, row_group_size, piece_bytes):
    monkeypatch.setattr("gpt2lab.data.sources.parquet.CHUNK_BYTES", piece_bytes)
    monkeypatch.setattr("gpt2lab.data.sources.parquet.BATCH_ROWS", 7)
    files = [write_parquet(tmp_path / name, part, row_group_size) for name, part in (("a", TEXTS), ("b", TEXTS[:9]))]
    parquet = source("parquet_files", *files)
    assert read(parquet) == TEXTS + TEXTS[:9]
    # workers see some of the chunks, ascending; one of them may also begin anew
    chunks = list(parquet.chunks())
    for chosen in (chunks[::2], chunks[1::3], chunks[::-1]):
        fresh = source("parquet_files", *files)
        for chunk in chosen:
            span = chunk.spans[0]
            expected = (TEXTS if span.path.endswith("a") else TEXTS[:9])[span.begin : span.end]
            assert list(fresh.read(chunk)) == expected


def test_bad_parquet_is_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", ["x", None, "y"])
    *_, problem, last = read(source("parquet_files", path))
    assert (problem.reason, last) == ("not a string", "y")
    assert f"{path}: row 1: expected a string in 'text', found null" in problem.message
    (problem,) = read(source("parquet_files", path, text_column="content"))
    assert problem.documents == 3
    assert f"{path}: expected the column 'content', found id, text: name it with data.text_column=" in problem.message
    for content in (b"no parquet", b"", path.read_bytes()[:-9]):
        (tmp_path / "b.parquet").write_bytes(content)
        with pytest.raises(UserError, match=r"b\.parquet: expected a Parquet file") as error:
            source("parquet_files", tmp_path / "b.parquet").size_bytes()
        assert "\n" not in str(error.value)


def test_reader_does_not_read_the_row_groups_between_its_chunks(tmp_path):
    """With several workers, a worker gets every other chunk, and one between them may be damaged."""
    path = write_parquet(tmp_path / "a.parquet", TEXTS, row_group_size=50)
    chunks = list(row_chunks(path, "text"))
    ranges = RowRanges("text")
    first = list(ranges.read(chunks[0]))
    damage_row_group(path, 1)
    assert first + list(ranges.read(chunks[2])) == [*TEXTS[:50], *TEXTS[100:150]]


def damage_row_group(path, number):
    group = pq.ParquetFile(path).metadata.row_group(number).column(1)
    begin = min(group.data_page_offset, group.dictionary_page_offset or group.data_page_offset)
    content = bytearray(path.read_bytes())
    content[begin : begin + group.total_compressed_size] = b"\xff" * group.total_compressed_size
    path.write_bytes(content)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damaged_parquet_data_is_named_and_counted(tmp_path, num_workers):
    path = write_parquet(tmp_path / "a.parquet", TEXTS, row_group_size=50)
    damage_row_group(path, 2)
    data = ParquetFilesConfig(root=str(tmp_path / "data"), files=[str(path)], val_fraction=0.3)
    with pytest.raises(
        UserError, match=r"a\.parquet: the data is damaged from row 100 on .*data\.on_error=skip"
    ) as error:
        prepare(data, PrepareConfig(num_workers=num_workers), BYTES)
    assert "\n" not in str(error.value)
    manifest = prepare(dataclasses.replace(data, on_error="skip"), PrepareConfig(num_workers=num_workers), BYTES)
    assert manifest.skipped == {"damaged file": 50}
    assert sum(split.documents for split in manifest.splits.values()) == len(TEXTS) - 50


def test_workers_read_parquet(tmp_path):
    files = [str(write_parquet(tmp_path / f"{i}.parquet", TEXTS[i::4])) for i in range(4)]
    sets = [ParquetFilesConfig(root=str(tmp_path / str(n)), files=files, val_fraction=0.3) for n in (0, 3)]
    for data, workers in zip(sets, (0, 3), strict=True):
        prepare(data, PrepareConfig(num_workers=workers), BYTES)
    one, other = ({p.name: p.read_bytes() for p in dataset_folder(data, BYTES).iterdir()} for data in sets)
    assert one == other


# ------------------------------------------------------------------------------------------------------------------ Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in the form of a Hub repository: two subsets of Parquet files."""
    monkeypatch.setitem(os.environ, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    for name, texts in (("one", TEXTS), ("two", TEXTS[:30])):
        (folder / name).mkdir(parents=True)
        write_parquet(folder / name / "train-00000-of-00002.parquet", texts[: len(texts) // 2])
        write_parquet(folder / name / "train-00001-of-00002.parquet", texts[len(texts) // 2 :])
        write_parquet(folder / name / "test-00000-of-00001.parquet", ["held out"])
    subsets = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train-*\n"
        f"  - split: test\n    path: {name}/test-*\n"
        for name in ("one", "two")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{subsets}---\n")
    return {"hub_path": str(folder), "hub_subset": "one", "hub_revision": "main"}


def test_a_hub_set_is_the_files_of_its_subset_and_split(hub):
    assert read(source("hub", **hub)) == TEXTS
    assert read(source("hub", **hub | {"hub_subset": "two"})) == TEXTS[:30]
    assert read(source("hub", **hub, hub_split="test")) == ["held out"]


def test_rows_are_joined_to_documents_across_chunks_and_files(hub, monkeypatch):
    monkeypatch.setattr("gpt2lab.data.sources.parquet.CHUNK_BYTES", 300)
    documents = read(source("hub", **hub, document_start=r"\d*7 "))
    starts = [0] + [i for i in range(200) if i % 10 == 7]
    assert documents == ["".join(TEXTS[a:b]) for a, b in zip(starts, [*starts[1:], 200], strict=True)]


def test_rows_are_cut_as_text_files_are(hub, tmp_path):
    path = tmp_path / "a.txt"
    for text in TEXTS[:40]:
        path.write_text(text, newline="")
        expected = read(source("text_files", path, delimiter="\n", min_document_bytes=20))
        write_parquet(tmp_path / "repository" / "one" / "test-00000-of-00001.parquet", [text])
        found = read(source("hub", **hub, hub_split="test", delimiter="\n", min_document_bytes=20))
        assert found == expected


def test_what_cannot_be_had_is_one_line(hub, tmp_path):
    with pytest.raises(UserError, match=r"data\.hub_split=validation: expected one of train, test"):
        read(source("hub", **hub, hub_split="validation"))
    with pytest.raises(UserError, match=r"data\.hub_path=.*none: not fetched .*data=parquet_files") as error:
        read(source("hub", **hub | {"hub_path": str(tmp_path / "none")}))
    assert "\n" not in str(error.value)


def test_manifest_of_a_hub_dataset_has_the_hashes_of_its_files(hub, tmp_path):
    data = HubConfig(root=str(tmp_path / "data"), val_fraction=0.3, **hub)
    files = sorted((tmp_path / "repository" / "one").glob("train-*"))
    manifest = prepare(data, PrepareConfig(), BYTES)
    assert manifest.source["files"] == [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in files
    ]
    for path in files:  # opening the dataset needs neither the network nor the files
        path.unlink()
    assert open_or_prepare(data, BYTES)[1] == manifest


def test_hash_of_a_cached_file_is_the_name_that_the_hub_gave_it(tmp_path, monkeypatch):
    (tmp_path / ("0a" * 32)).write_bytes(b"content")
    (tmp_path / "link.parquet").symlink_to(tmp_path / ("0a" * 32))
    (tmp_path / "plain.parquet").write_bytes(b"content")
    assert cached_sha256(tmp_path / "link.parquet") == "0a" * 32
    assert cached_sha256(tmp_path / "plain.parquet") == hashlib.sha256(b"content").hexdigest()
    monkeypatch.setattr("gpt2lab.data.sources.hub.HASH_LIMIT_BYTES", 5)
    assert cached_sha256(tmp_path / "plain.parquet") is None


def test_packages_that_are_missing_are_named(hub, tmp_path, monkeypatch):
    cases = {
        "zstandard": lambda: read(source("jsonl_files", write_jsonl(tmp_path / "a.jsonl.zst", rows(["x"])))),
        "pyarrow": lambda: read(source("parquet_files", write_parquet(tmp_path / "a.parquet", ["x"]))),
        "datasets": lambda: read(source("hub", **hub)),
    }
    for package, call in cases.items():
        with monkeypatch.context() as context:
            context.setitem(__import__("sys").modules, package, None)
            with pytest.raises(UserError, match=f"{package} is not installed: type pip install {package}"):
                call()


def test_train_and_validation_share_no_document_and_half_the_files_give_the_same_split(tmp_path, hub):
    kinds = {
        "jsonl_files": lambda i, texts: write_jsonl(tmp_path / f"{i}.jsonl.gz", rows(texts)),
        "parquet_files": lambda i, texts: write_parquet(tmp_path / f"{i}.parquet", texts),
        "text_files": lambda i, texts: (
            (tmp_path / f"{i}.txt").write_text("\0".join(texts), newline="") and tmp_path / f"{i}.txt"
        ),
    }
    texts = [*TEXTS, *TEXTS[:50]]
    for kind, write in kinds.items():
        files = [str(write(i, texts[i::4])) for i in range(4)]
        sides = []
        for half in (files, files[::2]):
            text_options = {"delimiter": "\0", "min_document_bytes": 0} if kind == "text_files" else {}
            root = str(tmp_path / str(len(half)))
            data = DATA_SOURCES[kind](root=root, files=half, val_fraction=0.3, **text_options)
            manifest = prepare(data, PrepareConfig(), BYTES)
            sides.append([documents(data, manifest, split) for split in ("train", "val")])
        (train, val), (half_train, half_val) = sides
        assert train
        assert not train & val
        assert half_train <= train
        assert half_val <= val
        assert train | val == set(TEXTS)
        assert half_train | half_val == {text for i in (0, 2) for text in texts[i::4]}
    data = HubConfig(name="hub", root=str(tmp_path), val_fraction=0.3, **hub)
    manifest = prepare(data, PrepareConfig(), BYTES)
    # a text's side is a function of the text, wherever it comes from
    assert [documents(data, manifest, split) for split in ("train", "val")] == [train, val]


def test_train_and_validation_share_no_document_of_the_standard_library(tmp_path):
    data = PythonStdlibConfig(root=str(tmp_path), val_fraction=0.1)
    manifest = prepare(data, PrepareConfig(), BYTES)
    train, val = (documents(data, manifest, split) for split in ("train", "val"))
    assert train
    assert val
    assert not train & val


def documents(data, manifest, split):
    import numpy as np

    from gpt2lab.data import TokenStream

    stream = TokenStream(dataset_folder(data, BYTES), manifest, split)
    tokens = stream.read(0, len(stream))
    parts = np.split(tokens, np.flatnonzero(tokens == BYTES.eot_id))[1:]
    return {BYTES.decode(part[1:].tolist()) for part in parts}
