"""A tokenizer that is trained on the dataset it encodes: on training documents only, saved and checked with it."""

import dataclasses
import json
import logging

import pytest

from gpt2lab.config import PrepareConfig, PythonStdlibConfig, StateOfTheUnionConfig, TextFilesConfig, UserError
from gpt2lab.data import dataset_folder, load_manifest, open_or_prepare, open_source, prepare, verify
from gpt2lab.data.preparation.training_text import training_documents
from gpt2lab.tokenizers import UntrainedBPE
from gpt2lab.tokenizers.bytes import BytesTokenizer

DOCUMENTS = [f"document {i} " * (i % 7 + 1) for i in range(120)]


class Trained(BytesTokenizer):
    """Bytes, with a file that holds the documents it was trained on."""

    name = "trained_3"
    files = None

    def __init__(self, documents):
        self.files = {"tokenizer.json": json.dumps(documents)}


class Untrained:
    """Counts how often it is trained."""

    name = "trained_3"
    overrides = ("tokenizer=trained", "tokenizer.vocab_size=3")
    trainings = 0

    def train(self, documents):
        self.trainings += 1
        return Trained(list(documents))


@pytest.fixture
def data(tmp_path):
    (tmp_path / "a.txt").write_text("|".join(DOCUMENTS))
    return TextFilesConfig(
        name="d", root=str(tmp_path / "data"), files=[f"{tmp_path}/a.txt"], delimiter="|", min_document_bytes=0,
        val_fraction=0.3,
    )  # fmt: skip


def test_tokenizer_is_trained_on_the_training_split_alone(data, caplog):
    caplog.set_level(logging.INFO)
    folder, manifest = open_or_prepare(data, Untrained())
    assert any(line.startswith("training tokenizer=trained tokenizer.vocab_size=3 on the") for line in caplog.messages)
    documents = json.loads((folder / "tokenizer.json").read_text())
    assert 0 < manifest.splits["val"].documents < len(DOCUMENTS)
    assert len(documents) == manifest.splits["train"].documents
    assert sum(map(len, documents)) == manifest.splits["train"].bytes
    assert set(documents) < set(DOCUMENTS)


def test_copies_are_trained_on_once(data, tmp_path):
    (tmp_path / "a.txt").write_text("|".join([*DOCUMENTS, *DOCUMENTS]))
    assert len(list(training_documents(open_source(data)))) == 2 * len(set(training_documents(open_source(data))))
    data = dataclasses.replace(data, deduplicate=True)
    documents = list(training_documents(open_source(data)))
    assert (
        len(documents) == len(set(documents)) == prepare(data, PrepareConfig(), Untrained()).splits["train"].documents
    )


def test_a_split_that_the_source_makes_is_respected():
    source = open_source(StateOfTheUnionConfig())
    documents = list(training_documents(source))
    assert len(documents) == 2_321
    assert "Gentlemen of the Senate and Gentlemen of the House" not in "".join(documents)[:10_000]
    assert sum(len(document.encode()) for document in documents) == 10_912_989


def test_unreadable_documents_stop_the_training_or_are_left_out(data, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"|".join([*(text.encode() for text in DOCUMENTS), b"\xff", b""]))
    with pytest.raises(UserError, match=r"not valid UTF-8.*data\.on_error=skip"):
        list(training_documents(open_source(data)))
    documents = list(training_documents(open_source(dataclasses.replace(data, on_error="skip"))))
    assert set(documents) < set(DOCUMENTS)


def test_trained_tokenizer_is_hashed_and_not_trained_again(data):
    tokenizer = Untrained()
    folder, manifest = open_or_prepare(data, tokenizer)
    assert open_or_prepare(data, tokenizer) == (folder, manifest)
    assert tokenizer.trainings == 1
    assert folder == dataset_folder(data, tokenizer)
    assert folder.name == manifest.tokenizer == "trained_3"
    assert set(manifest.tokenizer_files) == {"tokenizer.json"}
    (folder / "tokenizer.json").write_text("[]")
    with pytest.raises(UserError, match=r"tokenizer\.json: has changed since it was prepared"):
        verify(folder, manifest)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json: is missing"):
        load_manifest(folder)


def test_command_of_a_missing_dataset_selects_the_tokenizer(data, monkeypatch):
    monkeypatch.setattr("gpt2lab.data.datasets.AUTOMATIC_LIMIT_BYTES", 1)
    with pytest.raises(UserError, match=r"data=text_files tokenizer=trained tokenizer\.vocab_size=3 data\.name=d"):
        open_or_prepare(data, Untrained())


def test_dataset_of_another_tokenizer_under_the_same_name_is_refused(data):
    folder, _ = open_or_prepare(data, Untrained())
    with pytest.raises(UserError, match="made with tokenizer=trained_3 .*expected tokenizer=bytes"):
        load_manifest(folder, BytesTokenizer())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_trained_bpe_gives_the_same_bytes_with_any_number_of_workers(data, tmp_path, num_workers):
    data = dataclasses.replace(data, root=str(tmp_path / str(num_workers)))
    manifest = prepare(data, PrepareConfig(num_workers=num_workers), UntrainedBPE(270))
    assert (manifest.tokenizer, manifest.vocab_size) == ("bpe_270", 270)
    expected = prepare(dataclasses.replace(data, root=str(tmp_path / "again")), PrepareConfig(), UntrainedBPE(270))
    assert manifest == expected


def test_vocabulary_too_large_for_the_text_is_one_line_and_leaves_nothing(data, tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size=5000: .*type tokenizer\.vocab_size=\d+") as error:
        open_or_prepare(data, UntrainedBPE(5000))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "data").rglob("*.json"))


def test_source_that_is_no_text_is_not_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    (tmp_path / "a.py").write_bytes(b"\xff")
    assert list(training_documents(open_source(PythonStdlibConfig()))) == []
