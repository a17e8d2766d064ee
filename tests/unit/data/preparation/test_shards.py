"""gpt2lab.data: shards, stream and manifest: what is written is read back, and damage is found."""

import dataclasses
import json
import math
import os
from dataclasses import dataclass

import numpy as np
import pytest

from gpt2lab.config import PrepareConfig, TextFilesConfig, UserError
from gpt2lab.data import TokenStream, dataset_folder, load_manifest, prepare, verify
from gpt2lab.data.manifest import write_manifest
from gpt2lab.data.preparation.shards import ShardWriter
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.tokenizers.bytes import BytesTokenizer


@dataclass
class Vocabulary:
    """As much of a tokenizer as a writer needs."""

    vocab_size: int
    eot_id: int


def add(writer, documents, vocabulary, text_bytes):
    tokens = [token for document in documents for token in (vocabulary.eot_id, *document)]
    lengths = [1 + len(document) for document in documents]
    writer.add(np.array(tokens, dtype=np.uint32), np.array(lengths), text_bytes)


def write_documents(folder, documents, shard_tokens, vocabulary):
    with ShardWriter(folder, "train", vocabulary, shard_tokens) as writer:
        for document in documents:
            add(writer, [document], vocabulary, text_bytes=0)
        return writer.finish()


@pytest.fixture
def prepared(tmp_path):
    """A set of several shards, and its folder."""
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text(f"document {i} " * (i % 5 + 1))
    data = TextFilesConfig(
        delimiter=None,
        min_document_bytes=0,
        name="small",
        root=str(tmp_path / "data"),
        files=[f"{tmp_path}/*.txt"],
        val_fraction=0.3,
    )
    manifest = prepare(data, PrepareConfig(shard_tokens=100), load_tokenizer("bytes"))
    return dataset_folder(data, load_tokenizer("bytes")), manifest


@pytest.mark.parametrize("shard_tokens", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("at_once", [1, 3, 10])
def test_shards_hold_the_documents_with_end_of_text_before_each(tmp_path, shard_tokens, at_once):
    documents = [[1, 2, 3], [4], [], [5] * 11, [6, 7]]
    stream = [0, 1, 2, 3, 0, 4, 0, 0, *[5] * 11, 0, 6, 7]
    vocabulary = Vocabulary(10, 0)
    with ShardWriter(tmp_path, "val", vocabulary, shard_tokens) as writer:
        for first in range(0, len(documents), at_once):
            add(writer, documents[first : first + at_once], vocabulary, text_bytes=4)
        split = writer.finish()
    arrays = [np.load(tmp_path / shard.file, mmap_mode="r") for shard in split.shards]
    assert [shard.file for shard in split.shards] == [f"val_{i:06d}.npy" for i in range(len(arrays))]
    assert np.concatenate(arrays).tolist() == stream
    assert all(len(array) == shard_tokens for array in arrays[:-1])
    assert [len(array) for array in arrays] == [shard.tokens for shard in split.shards]
    for shard, array in zip(split.shards, arrays, strict=True):
        starts = np.load(tmp_path / shard.starts_file)
        assert (starts.dtype, len(starts)) == (np.int64, shard.documents)
        assert starts.tolist() == np.flatnonzero(array == 0).tolist()
    assert (split.tokens, split.documents, split.bytes) == (len(stream), 5, 4 * math.ceil(5 / at_once))


def test_unigram_entropy_by_hand(tmp_path):
    # Four tokens: 9 (end of text) twice, 1 once, 2 once: entropy 1/2 ln 2 + 2 x 1/4 ln 4 = 1.5 ln 2.
    split = write_documents(tmp_path, [[1], [2]], 100, Vocabulary(10, 9))
    assert split.unigram_entropy == pytest.approx(1.5 * math.log(2), rel=1e-12)


@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(257, "uint16"), (65_536, "uint16"), (65_537, "uint32"), (200_000, "uint32")]
)
def test_the_largest_id_survives_in_the_smallest_dtype(tmp_path, vocab_size, dtype):
    write_documents(tmp_path, [[vocab_size - 1]], 100, Vocabulary(vocab_size, 0))
    tokens = np.load(tmp_path / "train_000000.npy")
    assert (tokens.dtype, tokens.tolist()) == (np.dtype(dtype), [0, vocab_size - 1])


def test_an_id_outside_the_vocabulary_is_never_written(tmp_path):
    class Wrong(BytesTokenizer):
        def encode_array(self, text):
            return np.array([70_000], dtype=np.uint32)

    (tmp_path / "a.txt").write_text("text")
    data = TextFilesConfig(
        delimiter=None, min_document_bytes=0, root=str(tmp_path / "data"), files=[f"{tmp_path}/a.txt"]
    )
    with pytest.raises(AssertionError, match="70000 is outside"):
        prepare(data, PrepareConfig(), Wrong())


@pytest.mark.parametrize("shard_tokens", [5, 7, 100])
def test_a_writer_goes_on_from_its_state_whatever_came_after(tmp_path, shard_tokens):
    documents = [[1, 2, 3], [4], [], [5] * 11, [6, 7], [8], [9] * 30]
    vocabulary = Vocabulary(10, 0)
    for cut in range(len(documents)):
        straight, broken = tmp_path / f"straight{cut}", tmp_path / f"broken{cut}"
        straight.mkdir()
        broken.mkdir()
        split = write_documents(straight, documents, shard_tokens, vocabulary)
        with ShardWriter(broken, "train", vocabulary, shard_tokens) as writer:
            add(writer, documents[:cut], vocabulary, 0)
            state = json.loads(json.dumps(writer.state()))
            add(writer, [[7] * 20], vocabulary, 0)  # what a kill came after
        with ShardWriter(broken, "train", vocabulary, shard_tokens) as writer:
            writer.restore(state)
            add(writer, documents[cut:], vocabulary, 0)
            assert writer.finish() == split
        for shard in split.shards:
            for name in (shard.file, shard.starts_file):
                assert (broken / name).read_bytes() == (straight / name).read_bytes()


def test_reads_over_shard_borders_equal_the_concatenation(prepared):
    folder, manifest = prepared
    assert len(manifest.splits["train"].shards) > 3
    whole = np.concatenate([np.load(path) for path in sorted(folder.glob("train_*[0-9].npy"))])
    stream = TokenStream(folder, manifest, "train")
    assert len(stream) == len(whole) == manifest.splits["train"].tokens
    generator = np.random.default_rng(0)
    ranges = [tuple(sorted(generator.integers(0, len(whole) + 1, 2).tolist())) for _ in range(300)]
    for start, stop in [*ranges, (0, len(whole)), (100, 200), (99, 101), (0, 0), (len(whole), len(whole))]:
        part = stream.read(start, stop)
        assert part.dtype == np.uint16
        assert np.array_equal(part, whole[start:stop])
    with pytest.raises(AssertionError):
        stream.read(0, len(whole) + 1)


def test_reads_within_a_shard_are_views_and_read_only(prepared):
    stream = TokenStream(*prepared, "train")
    part = stream.read(10, 20)
    assert np.shares_memory(part, stream.read(0, 100))
    assert not part.flags.writeable


def test_manifest_survives_the_disk(prepared):
    folder, manifest = prepared
    assert load_manifest(folder, load_tokenizer("bytes")) == manifest
    verify(folder, manifest)


def test_manifest_holds_any_name_of_a_source_file(prepared):
    folder, manifest = prepared
    manifest = dataclasses.replace(manifest, source={"files": [{"path": os.fsdecode("日/".encode() + b"caf\xe9.txt")}]})
    write_manifest(folder, manifest)
    assert load_manifest(folder) == manifest
    assert "日/caf\\udce9.txt" in (folder / "manifest.json").read_text(encoding="utf-8")


def test_a_missing_set_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"no manifest\.json: type gpt2lab prepare with its data= and tokenizer= first"):
        load_manifest(tmp_path / "nothing")


def test_another_tokenizer_is_refused(prepared):
    with pytest.raises(UserError, match=r"made with tokenizer=bytes .*expected tokenizer=gpt2"):
        load_manifest(prepared[0], load_tokenizer("gpt2"))


def test_the_same_name_with_another_fingerprint_is_refused(prepared):
    tokenizer = type("Other", (), {"name": "bytes", "fingerprint": "f" * 64})()
    with pytest.raises(UserError, match=r"made with tokenizer=bytes .*expected tokenizer=bytes \(ffff"):
        load_manifest(prepared[0], tokenizer)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(version=4),
        lambda values: values.update(format="other"),
        lambda values: values.update(surprise=1),
        lambda values: values.pop("splits"),
        lambda values: values.pop("source"),
        lambda values: values.update(splits=[]),
        lambda values: values["splits"].pop("val"),
        lambda values: values["splits"].update(test=values["splits"]["val"]),
        lambda values: values["splits"]["train"].pop("shards"),
        lambda values: values["splits"]["train"].update(tokens=1),
        lambda values: values["splits"]["train"].update(documents=1),
        lambda values: values["splits"]["train"]["shards"].pop(),
        lambda values: values["splits"]["train"]["shards"][0].update(tokens="many"),
        lambda values: values["splits"]["train"]["shards"][0].update(sha256="0" * 64),
        lambda values: values.update(tokenizer_fingerprint="0" * 64),
        lambda values: values.update(dtype="uint32"),
        lambda values: values.update(vocab_size=100_000),
    ],
)
def test_a_changed_manifest_is_one_line_error(prepared, change):
    folder, _ = prepared
    values = json.loads((folder / "manifest.json").read_text())
    change(values)
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"manifest\.json: .*overwrite=true") as error:
        load_manifest(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"text"', "null", '{"version": 1}', "\xff"])
def test_what_is_no_manifest_is_one_line_error(prepared, text):
    folder, _ = prepared
    (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"manifest\.json: .*overwrite=true"):
        load_manifest(folder)


def test_a_newer_version_is_named(prepared):
    folder, _ = prepared
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"version": 3', '"version": 7'))
    with pytest.raises(UserError, match="has version 7, expected at most 3: update gpt2lab"):
        load_manifest(folder)


@pytest.mark.parametrize("name", ["train_000001.npy", "val_000000.npy", "train_000001.starts.npy"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2]), "bytes, expected"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "bytes, expected"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), r"not a \.npy file"),
        (lambda path: path.write_bytes(b""), r"not a \.npy file"),
        (lambda path: np.save(path, np.zeros(3, dtype=np.float32)), "holds float32"),
    ],
)
def test_a_damaged_file_is_found_when_the_set_is_opened(prepared, name, damage, message):
    folder, _ = prepared
    damage(folder / name)
    with pytest.raises(UserError, match=rf"{name}: .*{message}.*overwrite=true|{name}: {message}.*overwrite=true"):
        load_manifest(folder)


@pytest.mark.parametrize("name", ["train_000001.npy", "val_000000.npy", "train_000001.starts.npy"])
def test_a_flipped_byte_is_found_by_verify(prepared, name):
    folder, _ = prepared
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    load_manifest(folder)
    with pytest.raises(UserError, match=rf"{name}: has changed .*overwrite=true"):
        verify(folder, load_manifest(folder))
