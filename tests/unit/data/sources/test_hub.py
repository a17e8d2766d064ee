"""gpt2lab.data.sources.hub on a folder in the form of a Hub repository."""

import hashlib
import shutil

import pytest

from gpt2lab.config import (
    HubConfig,
    PrepareConfig,
    UserError,
)
from gpt2lab.data import open_or_prepare, prepare
from gpt2lab.data.sources.hub import cached_sha256
from tests.unit.data.sources.table_files import BYTES, TEXTS, read, rows, source, write_jsonl, write_parquet


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
        read(source("hub", **hub | {"hub_path": str(tmp_path / "none"), "hub_revision": "0a" * 20}))
    assert "\n" not in str(error.value)


def test_manifest_of_a_hub_dataset_has_the_hashes_of_its_files(hub, tmp_path):
    data = HubConfig(root=str(tmp_path / "data"), val_fraction=0.3, **hub)
    files = sorted((tmp_path / "repository" / "one").glob("train-*"))
    manifest = prepare(data, PrepareConfig(), BYTES)
    assert manifest.source["files"] == [
        {
            "name": f"one/{path.name}",
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    ]
    for path in files:  # opening the dataset needs neither the network nor the files
        path.unlink()
    assert open_or_prepare(data, BYTES)[1] == manifest


def replace_text(path):
    write_parquet(path, [text.replace("wort", "trow") for text in TEXTS[:100]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace_text, "train-00000-of-00002.parquet has changed since"),
        (lambda path: write_parquet(path, TEXTS[:20]), "train-00000-of-00002.parquet has changed since"),
        (lambda path: write_parquet(path.with_name("train-2.parquet"), TEXTS), "it lacks .*one/train-2.parquet"),
        (lambda path: path.rename(path.with_name("train-2.parquet")), "it lacks .*one/train-2.parquet"),
        (
            lambda path: (path.parents[1] / "README.md").write_text(
                "---\nconfigs:\n- config_name: one\n  data_files:\n  - split: train\n    path: one/train-00001*\n---\n"
            ),
            "it holds .*one/train-00000-of-00002.parquet too",
        ),
    ],
)
def test_changed_file_of_a_local_folder_is_found(hub, tmp_path, change, message):
    data = HubConfig(root=str(tmp_path / "data"), val_fraction=0.3, **hub | {"hub_revision": None})
    manifest = prepare(data, PrepareConfig(), BYTES)
    assert open_or_prepare(data, BYTES)[1] == manifest
    path = tmp_path / "repository" / "one" / "train-00000-of-00002.parquet"
    before = source("hub", **hub).identity()
    change(path)
    with pytest.raises(UserError, match=rf"was made from something else \(.*{message}\)") as error:
        open_or_prepare(data, BYTES)
    assert "\n" not in str(error.value)
    assert source("hub", **hub).identity() != before  # a killed preparation begins anew


@pytest.mark.parametrize("revision", ["main", "refs/convert/parquet", "0a0a0a0"])
def test_revision_that_is_no_commit_is_refused(revision):
    with pytest.raises(UserError, match=rf"data\.hub_revision={revision}: expected a commit of a/b, 40 hexadecimal"):
        source("hub", hub_path="a/b", hub_revision=revision)
    source("hub", hub_path="a/b", hub_revision="0a" * 20)


def test_a_dataset_without_a_revision_is_refused_when_it_is_read():
    with pytest.raises(UserError, match=r"data\.hub_revision=null: expected a commit of a/b, 40 hexadecimal"):
        read(source("hub", hub_path="a/b"))


def test_a_prepared_folder_is_used_after_it_has_been_deleted(hub, tmp_path):
    data = HubConfig(root=str(tmp_path / "data"), val_fraction=0.3, **hub | {"hub_revision": None})
    manifest = prepare(data, PrepareConfig(), BYTES)
    shutil.rmtree(hub["hub_path"])
    assert open_or_prepare(data, BYTES)[1] == manifest


def test_hash_of_a_cached_file_is_the_name_that_the_hub_gave_it(tmp_path, monkeypatch):
    (tmp_path / ("0a" * 32)).write_bytes(b"content")
    (tmp_path / "link.parquet").symlink_to(tmp_path / ("0a" * 32))
    (tmp_path / "plain.parquet").write_bytes(b"content")
    assert cached_sha256(tmp_path / "link.parquet") == "0a" * 32
    assert cached_sha256(tmp_path / "plain.parquet") == hashlib.sha256(b"content").hexdigest()
    monkeypatch.setattr("gpt2lab.data.sources.hub.HASH_LIMIT_BYTES", 5)
    assert cached_sha256(tmp_path / "plain.parquet") is None


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json"])
def test_a_repository_of_json_lines_is_read_as_the_files_are(hub, tmp_path, suffix):
    folder = tmp_path / "lines"
    folder.mkdir()
    path = write_jsonl(folder / f"train{suffix}", rows(TEXTS))
    assert read(source("hub", hub_path=str(folder))) == TEXTS
    joined = read(source("hub", hub_path=str(folder), document_start="[0-9]*7 "))
    assert joined == read(source("hub", **hub, document_start="[0-9]*7 "))
    data = HubConfig(root=str(tmp_path / "data"), val_fraction=0.3, hub_path=str(folder))
    manifest = prepare(data, PrepareConfig(), BYTES)
    assert [file["name"] for file in manifest.source["files"]] == [path.name]
    assert open_or_prepare(data, BYTES)[1] == manifest
    write_jsonl(path, [*rows(TEXTS[:3]), b"no object\n"])
    *texts, problem = read(source("hub", hub_path=str(folder)))
    assert (texts, problem.reason) == (TEXTS[:3], "broken JSON")
    assert problem.message.startswith(f"{path}:4: expected a JSON object")


def test_a_repository_of_other_files_is_refused_with_their_name(hub, tmp_path):
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "train.csv").write_text("text\na\n")
    with pytest.raises(UserError, match=r"data\.hub_path=.*train\.csv is of a kind that is not read; expected"):
        read(source("hub", hub_path=str(tmp_path / "table")))
