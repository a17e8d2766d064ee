"""gpt2lab.data.sources.parquet, held against pyarrow and plain lists."""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2lab.config import (
    ParquetFilesConfig,
    PrepareConfig,
    UserError,
)
from gpt2lab.data import dataset_folder, prepare
from gpt2lab.data.sources.parquet import RowRanges, row_chunks
from tests.unit.data.sources.table_files import BYTES, TEXTS, read, source, write_parquet


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


def test_a_column_within_another_is_read(tmp_path):
    rows = [{"de": text[::-1], "en": text} for text in TEXTS]
    pq.write_table(pa.table({"id": range(201), "translation": [*rows, None]}), tmp_path / "a.parquet")
    *texts, problem = read(source("parquet_files", tmp_path / "a.parquet", text_column="translation.en"))
    assert texts == TEXTS
    assert "row 200: expected a string in 'translation.en', found null" in problem.message


def test_a_text_that_is_not_utf8_is_left_out_alone(tmp_path):
    """pyarrow writes and reads whatever bytes are said to be strings."""
    contents = pa.array([text.encode() for text in TEXTS[:30]] + [b"caf\xe9", b"last"], type=pa.binary())
    strings = pa.Array.from_buffers(pa.string(), len(contents), contents.buffers())
    pq.write_table(pa.table({"text": strings}), tmp_path / "a.parquet")
    *texts, problem, last = read(source("parquet_files", tmp_path / "a.parquet"))
    assert [*texts, last] == [*TEXTS[:30], "last"]
    assert problem.reason == "not UTF-8"
    assert problem.message == f"{tmp_path}/a.parquet: row 30: byte 3 of 'text' is not valid UTF-8"


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
