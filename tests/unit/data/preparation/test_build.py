"""gpt2lab.data.preparation.build: the whole way from text to a prepared dataset, held against the text itself."""

import dataclasses
import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gpt2lab.config import PrepareConfig, PythonStdlibConfig, TextFilesConfig, UserError
from gpt2lab.data import TokenStream, dataset_folder, load_manifest, open_or_prepare, prepare
from gpt2lab.data import datasets as datasets_module
from gpt2lab.data.preparation.command_line import prepare_command
from gpt2lab.data.sources import base, text
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.tokenizers.bytes import BytesTokenizer
from tests.conftest import imported_by

build_module = sys.modules["gpt2lab.data.preparation.build"]
BYTES = load_tokenizer("bytes")


def corpus(count):
    """Different texts of many lengths and scripts, none of them empty."""
    generator = random.Random(4)
    words = ["the", "model", "läuft", "слово", "文章", "👍", "<|endoftext|>", "x = 1"]
    return [f"{i}: " + " ".join(generator.choices(words, k=generator.randrange(40))) for i in range(count)]


def text_set(tmp_path, texts, delimiter="\n\n", val_fraction=0.2, **settings):
    """The config of a set of ``texts``, one file with a delimiter."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "corpus.txt").write_text(delimiter.join(texts), encoding="utf-8")
    return TextFilesConfig(
        name="set",
        root=str(tmp_path / "data"),
        files=[str(tmp_path / "corpus.txt")],
        delimiter=delimiter,
        val_fraction=val_fraction,
        **({"min_document_bytes": 0} | settings),
    )


def read_split(data, manifest, split, tokenizer=BYTES):
    """The documents of a prepared split, decoded."""
    stream = TokenStream(dataset_folder(data, tokenizer), manifest, split)
    tokens = stream.read(0, len(stream))
    assert tokens[0] == tokenizer.eot_id
    parts = np.split(tokens, np.flatnonzero(tokens == tokenizer.eot_id))[1:]
    return [tokenizer.decode(part[1:].tolist()) for part in parts]


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_document_is_on_exactly_one_side_and_whole(tmp_path):
    texts = corpus(300)
    for name in ("gpt2", "bytes"):
        tokenizer = load_tokenizer(name)
        data = text_set(tmp_path, texts)
        manifest = prepare(data, PrepareConfig(shard_tokens=1000), tokenizer)
        train, val = (read_split(data, manifest, split, tokenizer) for split in ("train", "val"))
        in_val = [int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 16**16 < 0.2 for text in texts]
        assert val == [text for text, held in zip(texts, in_val, strict=True) if held]
        assert train == [text for text, held in zip(texts, in_val, strict=True) if not held]
        assert 30 < len(val) < 90


def test_the_side_of_a_document_depends_on_its_text_alone(tmp_path):
    texts = corpus(200)
    some = text_set(tmp_path / "some", texts[::3])
    doubled = text_set(tmp_path / "doubled", [*texts[100:], *texts[:100], *texts])
    val_some = read_split(some, prepare(some, PrepareConfig(), BYTES), "val")
    val_doubled = read_split(doubled, prepare(doubled, PrepareConfig(), BYTES), "val")
    assert set(val_some) == set(val_doubled) & set(texts[::3])
    assert Counter(val_doubled) == Counter(2 * list(set(val_doubled)))


def test_manifest_counts_are_those_of_the_text(tmp_path):
    data = text_set(tmp_path, ["", *corpus(100), "", ""])
    manifest = prepare(data, PrepareConfig(shard_tokens=333), BYTES)
    for name, split in manifest.splits.items():
        documents = read_split(data, manifest, name)
        ids = [token for text in documents for token in (256, *text.encode())]
        assert split.documents == len(documents)
        assert split.bytes == sum(len(text.encode()) for text in documents)
        assert split.tokens == split.bytes + split.documents == len(ids)
        entropy = -sum(n / len(ids) * math.log(n / len(ids)) for n in Counter(ids).values())
        assert split.unigram_entropy == pytest.approx(entropy, rel=1e-12)
    assert manifest.skipped == {"empty": 3}
    assert (manifest.tokenizer, manifest.vocab_size, manifest.eot_id, manifest.dtype) == ("bytes", 257, 256, "uint16")
    assert manifest.source["delimiter"] == "\n\n"
    assert manifest.val_fraction == 0.2


def test_the_same_input_gives_the_same_bytes(tmp_path, monkeypatch):
    data = text_set(tmp_path, corpus(200))
    again = dataclasses.replace(data, root=str(tmp_path / "again"))
    prepare(data, PrepareConfig(shard_tokens=500), BYTES)
    monkeypatch.setattr(base, "CHUNK_BYTES", 50)
    prepare(again, PrepareConfig(shard_tokens=500), BYTES)
    assert files_of(dataset_folder(data, BYTES)) == files_of(dataset_folder(again, BYTES))


def test_the_set_fingerprint_follows_content_and_tokenizer(tmp_path):
    sets = {
        "plain": (corpus(50), {}, BYTES),
        "moved": (corpus(50), {}, BYTES),
        "longer": (corpus(51), {}, BYTES),
        "gpt2": (corpus(50), {}, load_tokenizer("gpt2")),
        "split": (corpus(50), {"val_fraction": 0.5}, BYTES),
    }
    prints = {
        name: prepare(text_set(tmp_path / name, texts, **settings), PrepareConfig(), tokenizer).fingerprint
        for name, (texts, settings, tokenizer) in sets.items()
    }
    assert prints["plain"] == prints["moved"]
    assert len(set(prints.values())) == 4


BREAKS = [(KeyboardInterrupt(), KeyboardInterrupt), (OSError("no space left"), UserError)]
"""what breaks a preparation off, and what comes out of it"""


class Failing(BytesTokenizer):
    """Breaks off at a document."""

    def __init__(self, error, at=20):
        self.error, self.at, self.calls = error, at, 0

    def encode_array(self, text):
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return super().encode_array(text)


@pytest.mark.parametrize(("error", "raised"), BREAKS)
def test_an_interrupted_prepare_leaves_nothing(tmp_path, monkeypatch, error, raised):
    monkeypatch.setattr(base, "CHUNK_BYTES", 50)
    monkeypatch.setattr(build_module, "SAVE_SECONDS", 1000)  # a busy disk takes more than the usual 2
    data = text_set(tmp_path, corpus(50))
    with pytest.raises(raised):
        prepare(data, PrepareConfig(shard_tokens=20), Failing(error))
    assert not dataset_folder(data, BYTES).parent.exists()


def test_an_interrupted_overwrite_keeps_the_old_set(tmp_path, monkeypatch):
    data = text_set(tmp_path, corpus(50))
    prepare(data, PrepareConfig(), BYTES)
    before = files_of(dataset_folder(data, BYTES))
    text_set(tmp_path, corpus(80))
    monkeypatch.setattr(base, "CHUNK_BYTES", 50)
    with pytest.raises(UserError, match=r"not written \(no space left\); it needs .* bytes, the disk has"):
        prepare(data, PrepareConfig(overwrite=True), Failing(OSError("no space left")))
    assert files_of(dataset_folder(data, BYTES)) == before
    assert [path.name for path in dataset_folder(data, BYTES).parent.iterdir()] == ["bytes"]


@pytest.mark.parametrize(("error", "raised"), BREAKS)
@pytest.mark.parametrize("deduplicate", [False, True])
def test_an_interrupted_prepare_goes_on_where_it_stopped(tmp_path, monkeypatch, error, raised, deduplicate):
    monkeypatch.setattr(base, "CHUNK_BYTES", 50)
    texts = [*corpus(60), *corpus(90)]
    straight = text_set(tmp_path / "straight", ["", *texts, ""], deduplicate=deduplicate)
    broken = dataclasses.replace(straight, root=str(tmp_path / "broken"))
    prepare(straight, PrepareConfig(shard_tokens=333), BYTES)
    monkeypatch.setattr(build_module, "SAVE_SECONDS", 0)
    calls = 0
    for at in (70, 40, 2, 2, 10):
        tokenizer = Failing(error, at)
        with pytest.raises(raised):
            prepare(broken, PrepareConfig(shard_tokens=333), tokenizer)
        calls += tokenizer.calls
    tokenizer = Failing(error, 10**9)
    prepare(broken, PrepareConfig(shard_tokens=333), tokenizer)
    assert files_of(dataset_folder(broken, BYTES)) == files_of(dataset_folder(straight, BYTES))
    # a chunk is a few documents: hardly more is done twice than the documents at which it broke off
    assert calls + tokenizer.calls < 150 + 5 * 4


@pytest.mark.parametrize("change", [{"val_fraction": 0.5}, {"deduplicate": True}, {"min_document_bytes": 30}])
def test_other_settings_begin_anew(tmp_path, monkeypatch, change):
    monkeypatch.setattr(base, "CHUNK_BYTES", 50)
    monkeypatch.setattr(build_module, "SAVE_SECONDS", 0)
    data = text_set(tmp_path, [*corpus(30), *corpus(30)])
    other = dataclasses.replace(data, **change)
    with pytest.raises(KeyboardInterrupt):
        prepare(data, PrepareConfig(), Failing(KeyboardInterrupt(), 40))
    prepare(other, PrepareConfig(), BYTES)
    straight = dataclasses.replace(other, root=str(tmp_path / "straight"))
    prepare(straight, PrepareConfig(), BYTES)
    assert files_of(dataset_folder(other, BYTES)) == files_of(dataset_folder(straight, BYTES))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("progress.json", lambda content: b""),
        ("progress.json", lambda content: content[:-20]),
        ("progress.json", lambda content: content.replace(b'"chunks": ', b'"chunks": 1')),
        ("progress.json", lambda content: b"\xff" + content),
        ("progress.json", lambda content: b"[" * 100_000),
        ("train_000000.npy", lambda content: content[:200]),
    ],
)
def test_damaged_progress_begins_anew(tmp_path, monkeypatch, caplog, name, damage):
    monkeypatch.setattr(base, "CHUNK_BYTES", 50)
    monkeypatch.setattr(build_module, "SAVE_SECONDS", 0)
    data = text_set(tmp_path, [*corpus(30), *corpus(30)])
    with pytest.raises(KeyboardInterrupt):
        prepare(data, PrepareConfig(), Failing(KeyboardInterrupt(), 40))
    path = dataset_folder(data, BYTES).with_name(".bytes.new") / name
    path.write_bytes(damage(path.read_bytes()))
    prepare(data, PrepareConfig(), BYTES)
    assert f"{name}: " in caplog.text
    straight = dataclasses.replace(data, root=str(tmp_path / "straight"))
    prepare(straight, PrepareConfig(), BYTES)
    assert files_of(dataset_folder(data, BYTES)) == files_of(dataset_folder(straight, BYTES))


def test_a_changed_source_begins_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "CHUNK_BYTES", 50)
    monkeypatch.setattr(build_module, "SAVE_SECONDS", 0)
    data = text_set(tmp_path, corpus(60))
    with pytest.raises(KeyboardInterrupt):
        prepare(data, PrepareConfig(), Failing(KeyboardInterrupt(), 40))
    text_set(tmp_path, ["another beginning", *corpus(59)])
    prepare(data, PrepareConfig(), BYTES)
    manifest = load_manifest(dataset_folder(data, BYTES))
    both = read_split(data, manifest, "train") + read_split(data, manifest, "val")
    assert sorted(both) == sorted(["another beginning", *corpus(59)])


class Writing(BytesTokenizer):
    """Adds to a file while it is read."""

    def __init__(self, path):
        self.path = path

    def encode_array(self, text):
        with self.path.open("a") as file:
            file.write("more")
        return super().encode_array(text)


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "SAVE_SECONDS", 0)
    data = text_set(tmp_path, corpus(60))
    with pytest.raises(UserError, match=r"data\.files=\[.*corpus\.txt\]: changed while it was read"):
        prepare(data, PrepareConfig(), Writing(tmp_path / "corpus.txt"))
    assert not (tmp_path / "data" / "set").exists()


def test_a_batch_job_has_lines_with_the_share_and_the_time_left(tmp_path, monkeypatch, caplog):
    """A chunk is a document of 100 bytes. It takes a minute, at the middle of which its line is written."""
    monkeypatch.setattr(base, "CHUNK_BYTES", 100)
    monkeypatch.setattr(build_module, "SAVE_SECONDS", 1e9)
    data = text_set(tmp_path, [f"{i}" * 100 for i in range(10)], delimiter="\n")
    clock = iter(range(0, 10**6, 30))  # it is looked at twice a chunk
    monkeypatch.setattr(build_module.time, "monotonic", lambda: next(clock))
    caplog.set_level("INFO")
    prepare(data, PrepareConfig(num_workers=0), BYTES)
    assert caplog.messages == [
        f"set: {k} documents, {101 * k:,} tokens, {100 * k / 10.09:.1f} % of the text, about "
        f"{(1009 - 100 * k) / (100 * k / (k - 0.5)):.0f} min left"
        for k in range(2, 11)
    ]
    caplog.clear()
    monkeypatch.setattr(build_module, "LINE_SECONDS", 0)
    monkeypatch.setattr(text.TextFiles, "size_bytes", lambda source: 0)  # not known
    prepare(data, PrepareConfig(num_workers=0, overwrite=True), BYTES)
    assert caplog.messages[-1] == "set: 10 documents, 1,010 tokens"


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_the_number_of_workers_changes_no_byte(tmp_path, monkeypatch, num_workers):
    data = text_set(tmp_path, corpus(400), deduplicate=True)
    workers = dataclasses.replace(data, root=str(tmp_path / "workers"))
    monkeypatch.setattr(base, "CHUNK_BYTES", 500)
    prepare(data, PrepareConfig(shard_tokens=3000, num_workers=0), BYTES)
    prepare(workers, PrepareConfig(shard_tokens=3000, num_workers=num_workers), BYTES)
    assert files_of(dataset_folder(data, BYTES)) == files_of(dataset_folder(workers, BYTES))


class Dying(BytesTokenizer):
    """Ends its process, as the system does when memory runs out."""

    def encode_array(self, text):
        if text.startswith("30:"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_array(text)


class Panicking(BytesTokenizer):
    """Raises what is no ``Exception``, as tiktoken can."""

    def encode_array(self, text):
        raise SystemExit("called Option::unwrap() on a None value")


def test_a_worker_that_dies_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "CHUNK_BYTES", 200)
    with pytest.raises(UserError, match=r"status -9 while it read .*corpus\.txt.*type the command again") as error:
        prepare(text_set(tmp_path, corpus(100)), PrepareConfig(num_workers=2), Dying())
    assert "\n" not in str(error.value)


def test_an_error_in_a_worker_comes_out_here(tmp_path):
    with pytest.raises(RuntimeError, match=r"in a worker process:\n(?s:.*)encode_array(?s:.*)unwrap"):
        prepare(text_set(tmp_path, corpus(10)), PrepareConfig(num_workers=1), Panicking())


def test_workers_import_no_torch():
    assert imported_by("import gpt2lab.data, gpt2lab.data.preparation.worker, gpt2lab.tokenizers", "torch") == []


def test_a_set_that_is_there_is_replaced_only_when_asked(tmp_path):
    data = text_set(tmp_path, corpus(50))
    first = prepare(data, PrepareConfig(), BYTES)
    text_set(tmp_path, corpus(60))
    with pytest.raises(UserError, match=r"set/bytes: exists already: add prepare\.overwrite=true"):
        prepare(data, PrepareConfig(), BYTES)
    assert load_manifest(dataset_folder(data, BYTES)) == first
    second = prepare(data, PrepareConfig(overwrite=True), BYTES)
    assert load_manifest(dataset_folder(data, BYTES)) == second != first
    assert [path.name for path in dataset_folder(data, BYTES).parent.iterdir()] == ["bytes"]


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ([""], {}, "expected text, found none"),
        (["", ""], {}, "expected text, found none"),
        (["only one"], {}, r"corpus\.txt\]: the text is a single document, expected at least two.*: try another delim"),
        (["one\r\n\r\ntwo"], {}, r"single document.*: lines end with \\r\\n: try 'data\.delimiter=\"\\r\\n\\r\\n\"'"),
        (corpus(50), {"val_fraction": 1e-9}, r"all 50 documents fell into train, .*: try data\.val_fraction=0\.2, or"),
        (
            corpus(50),
            {"val_fraction": 1 - 1e-9},
            r"all 50 documents fell into val, .*: try data\.val_fraction=0\.2, or",
        ),
        (corpus(50), {"min_document_bytes": 10**6}, "a single document, .*min_document_bytes"),
    ],
)
@pytest.mark.parametrize(
    "function", [lambda data: prepare(data, PrepareConfig(), BYTES), lambda data: open_or_prepare(data, BYTES)]
)
def test_an_empty_split_is_an_error_that_leaves_nothing(tmp_path, texts, settings, message, function, caplog):
    data = text_set(tmp_path, texts, **settings)
    with pytest.raises(UserError, match=message) as error:
        function(data)
    assert "\n" not in str(error.value)
    assert ("it is one document, as data.delimiter" in caplog.text) == ("\r\n" in texts[0])
    assert not dataset_folder(data, BYTES).parent.exists()


def test_a_bad_source_leaves_no_folder(tmp_path):
    data = text_set(tmp_path, corpus(50))
    with pytest.raises(UserError, match="none"):
        prepare(dataclasses.replace(data, files=["none.txt"]), PrepareConfig(), BYTES)
    assert not Path(data.root).exists()
    (tmp_path / "corpus.txt").write_bytes(b"good\n\nbad \xff")
    with pytest.raises(UserError, match="byte 10"):
        prepare(data, PrepareConfig(), BYTES)
    assert not Path(data.root, data.name).exists()


def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "CHUNK_BYTES", 20_000)
    monkeypatch.setattr(text, "SCAN_BYTES", 20_000)
    peaks = []
    for repeats in (1, 10):
        data = text_set(tmp_path / str(repeats), [f"{i} " + "some text " * 200 for i in range(40 * repeats)])
        tracemalloc.start()
        prepare(data, PrepareConfig(), BYTES)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000 < 800_000  # the larger text has 800,000 bytes


# ------------------------------------------------------------------------------------------------------ open_or_prepare


def test_a_small_local_source_is_prepared_once(tmp_path):
    data = text_set(tmp_path, corpus(50))
    folder, manifest = open_or_prepare(data, BYTES)
    assert load_manifest(folder) == manifest
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert open_or_prepare(data, BYTES) == (folder, manifest)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_a_large_source_is_left_to_prepare(tmp_path, monkeypatch):
    data = text_set(tmp_path, corpus(50))
    monkeypatch.setattr(datasets_module, "AUTOMATIC_LIMIT_BYTES", 100)
    with pytest.raises(
        UserError, match=r"set/bytes: .*type gpt2lab prepare data=text_files tokenizer=bytes data\.name=set"
    ):
        open_or_prepare(data, BYTES)
    assert not Path(data.root).exists()
    prepare(data, PrepareConfig(), BYTES)
    open_or_prepare(data, BYTES)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "name": "my set",
            "root": "/tmp/it's",
            "files": ["a.txt", "b c/*.txt", "true", "1", 'q"x', "é,[]"],
            "delimiter": '\n"\\"\t\r\u2028\'<|x|>\\',
            "min_document_bytes": 5,
            "val_fraction": 0.25,
        },
    ],
)
def test_the_command_of_an_error_gives_back_the_config(settings):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    data = TextFilesConfig(**settings)
    command = prepare_command(data, BYTES)
    assert command.isprintable()
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True).stdout
    words = printed.decode().split("\0")[:-1]
    assert words[:2] == ["gpt2lab", "prepare"]
    overrides = OverridesParser.create().parse_overrides(words[2:])
    values = {override.key_or_group: override.value() for override in overrides}
    assert values.pop("data") == "text_files"
    assert values.pop("tokenizer") == "bytes"
    files = [str(name) for name in values.pop("data.files")]  # Hydra keeps the marks of a quoted string
    read_back = {key.removeprefix("data."): value for key, value in values.items()}
    assert {"files", *read_back} == {field.name for field in dataclasses.fields(TextFilesConfig)} - {"source"}
    assert TextFilesConfig(files=files, **read_back) == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delimiter": "\n"}, "data.delimiter='\\n\\n' there, data.delimiter='\\n' here"),
        ({"delimiter": None}, "data.delimiter=None here"),
        ({"min_document_bytes": 9}, "data.min_document_bytes=0 there, data.min_document_bytes=9 here"),
        ({"val_fraction": 0.3}, "data.val_fraction=0.2 there, data.val_fraction=0.3 here"),
    ],
)
def test_a_set_made_with_other_settings_is_refused(tmp_path, change, message):
    data = text_set(tmp_path, corpus(50))
    open_or_prepare(data, BYTES)
    with pytest.raises(UserError) as error:
        open_or_prepare(dataclasses.replace(data, **change), BYTES)
    assert message in str(error.value)
    assert "prepare.overwrite=true, or give another data.name" in str(error.value)
    assert "\n" not in str(error.value)


def test_dataset_of_another_source_is_refused(tmp_path):
    data = text_set(tmp_path, corpus(50))
    open_or_prepare(data, BYTES)
    with pytest.raises(UserError, match="source='text_files' there, source='python_stdlib' here"):
        open_or_prepare(PythonStdlibConfig(name=data.name, root=data.root), BYTES)


def test_a_set_made_from_other_files_is_refused(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text("\n".join(corpus(30)) + name)
    base = TextFilesConfig(
        min_document_bytes=0, root=str(tmp_path / "data"), name="s", delimiter="\n", val_fraction=0.3
    )
    data = dataclasses.replace(base, files=[f"{tmp_path}/a", f"{tmp_path}/b"])
    open_or_prepare(data, BYTES)
    for files, message in (
        (["a", "b", "c"], "it lacks .*/c"),
        (["a"], "it holds .*/b too"),
        (["a", "x"], "it lacks .*/x"),
    ):
        with pytest.raises(UserError, match=message):
            open_or_prepare(dataclasses.replace(base, files=[f"{tmp_path}/{name}" for name in files]), BYTES)
    # Another spelling of the same files, and no files named at all, ask for nothing else.
    open_or_prepare(dataclasses.replace(base, files=[f"{tmp_path}/[ab]"]), BYTES)
    open_or_prepare(base, BYTES)


def test_a_changed_source_file_is_refused(tmp_path):
    data = text_set(tmp_path, corpus(50))
    open_or_prepare(data, BYTES)
    path = Path(data.files[0])
    original = path.read_bytes()
    for changed in (original + b"x", b"1" + original[1:]):
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"corpus\.txt has changed since"):
            open_or_prepare(data, BYTES)
    path.write_bytes(original)
    open_or_prepare(data, BYTES)


def test_large_source_files_are_compared_by_size(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "HASH_LIMIT_BYTES", 0)
    data = text_set(tmp_path, corpus(50))
    open_or_prepare(data, BYTES)
    path = Path(data.files[0])
    original = path.read_bytes()
    path.write_bytes(b"1" + original[1:])
    open_or_prepare(data, BYTES)
    path.write_bytes(original + b"x")
    with pytest.raises(UserError, match=r"corpus\.txt has changed since"):
        open_or_prepare(data, BYTES)


def test_a_set_outlives_its_source_files(tmp_path):
    data = text_set(tmp_path, corpus(50))
    by_glob = dataclasses.replace(data, name="glob", files=[str(tmp_path / "*.txt")])
    for config in (data, by_glob):
        open_or_prepare(config, BYTES)
    Path(data.files[0]).unlink()
    for config in (data, by_glob):
        open_or_prepare(config, BYTES)
    with pytest.raises(UserError, match=r"it lacks .*other"):
        open_or_prepare(dataclasses.replace(data, files=[str(tmp_path / "other.txt")]), BYTES)
    with pytest.raises(UserError, match=r"it holds .*corpus"):
        open_or_prepare(dataclasses.replace(data, files=[str(tmp_path / "other*.txt")]), BYTES)


def test_source_files_may_be_named_from_another_folder_or_moved(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    data = dataclasses.replace(text_set(folder, corpus(50)), files=["corpus.txt"])
    monkeypatch.chdir(folder)
    open_or_prepare(data, BYTES)
    monkeypatch.chdir(tmp_path)
    for files in (["project/corpus.txt"], [str(folder / "*.txt")]):
        open_or_prepare(dataclasses.replace(data, files=files), BYTES)
    moved = (folder / "corpus.txt").rename(tmp_path / "moved.txt")
    open_or_prepare(dataclasses.replace(data, files=["moved.txt"]), BYTES)
    moved.write_bytes(b"1" + moved.read_bytes()[1:])
    for files in (["moved.txt"], ["moved.txt", "project/corpus.txt"]):
        with pytest.raises(UserError, match=r"it lacks .*/moved\.txt"):
            open_or_prepare(dataclasses.replace(data, files=files), BYTES)


def test_the_standard_library_of_another_python_is_refused(tmp_path, monkeypatch):
    for i in range(60):
        (tmp_path / "lib").mkdir(exist_ok=True)
        (tmp_path / "lib" / f"{i}.py").write_text(f"x = {i}\n")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "lib"))
    data = PythonStdlibConfig(root=str(tmp_path / "data"), val_fraction=0.3)
    open_or_prepare(data, BYTES)
    open_or_prepare(data, BYTES)
    monkeypatch.setattr("platform.python_version", lambda: "4.0.0")
    with pytest.raises(UserError, match=r"python='3\..*' there, python='4\.0\.0' here"):
        open_or_prepare(data, BYTES)


def test_damage_is_found_before_training(tmp_path, monkeypatch):
    data = text_set(tmp_path, corpus(50))
    folder, _ = open_or_prepare(data, BYTES)
    content = bytearray((folder / "train_000000.npy").read_bytes())
    content[-1] ^= 1
    (folder / "train_000000.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"train_000000\.npy: has changed"):
        open_or_prepare(data, BYTES)
    monkeypatch.setattr(datasets_module, "VERIFY_LIMIT_BYTES", 0)
    open_or_prepare(data, BYTES)
    (folder / "train_000000.npy").write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"train_000000\.npy: has .* bytes"):
        open_or_prepare(data, BYTES)


class Slow(BytesTokenizer):
    """Takes its time, and counts."""

    calls = 0

    def encode_array(self, text):
        self.calls += 1
        time.sleep(0.005)
        return super().encode_array(text)


def test_two_at_once_prepare_one_set(tmp_path):
    data = text_set(tmp_path, corpus(50))
    tokenizer, results = Slow(), []
    threads = [threading.Thread(target=lambda: results.append(open_or_prepare(data, tokenizer))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert results[0] == results[1] == results[2]
    assert tokenizer.calls == 50
