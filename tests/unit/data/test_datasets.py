"""gpt2lab.data.datasets: interrupted overwrites, manifests of earlier versions, mixtures of unequal tokenizers."""

import dataclasses
import json
from pathlib import Path

import pytest

from gpt2lab.config import MixtureConfig, PrepareConfig, TextFilesConfig, UserError
from gpt2lab.data import dataset_folder, load_manifest, open_dataset, open_or_prepare, prepare
from gpt2lab.data.preparation.command_line import prepare_command
from gpt2lab.tokenizers import UntrainedBPE, load_tokenizer

BYTES = load_tokenizer("bytes")


@pytest.fixture
def data(tmp_path):
    (tmp_path / "a.txt").write_text("|".join(f"document {i} " * (i % 7 + 1) for i in range(120)))
    return TextFilesConfig(
        name="d", root=str(tmp_path / "data"), files=[f"{tmp_path}/a.txt"], delimiter="|", min_document_bytes=0,
        val_fraction=0.3,
    )  # fmt: skip


def names(folder):
    return sorted(path.name for path in folder.parent.iterdir())


@pytest.mark.parametrize("function", [open_or_prepare, open_dataset])
def test_overwrite_killed_between_its_renames_leaves_the_old_dataset(data, tmp_path, monkeypatch, function):
    manifest = prepare(data, PrepareConfig(), BYTES)
    folder = dataset_folder(data, BYTES)
    rename = Path.rename

    def killed_at_the_second(path, target):
        if path.name == ".bytes.new":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed_at_the_second)
    changed = dataclasses.replace(data, val_fraction=0.5)
    with pytest.raises(KeyboardInterrupt):
        prepare(changed, PrepareConfig(overwrite=True), BYTES)
    monkeypatch.undo()
    assert names(folder) == [".bytes.old"]
    assert function(data, BYTES) == (folder, manifest)
    assert names(folder) == ["bytes"]


def test_overwrite_of_a_linked_dataset_replaces_what_the_link_leads_to(data, tmp_path):
    prepare(data, PrepareConfig(), BYTES)
    link = dataset_folder(data, BYTES)
    (tmp_path / "disk").mkdir()
    link.rename(tmp_path / "disk" / "moved")
    link.symlink_to(tmp_path / "disk" / "moved")
    for fraction in (0.5, 0.4):
        data = dataclasses.replace(data, val_fraction=fraction)
        manifest = prepare(data, PrepareConfig(overwrite=True), BYTES)
        assert open_or_prepare(data, BYTES) == (tmp_path / "disk" / "moved", manifest)
        assert (names(link), link.is_symlink(), names(tmp_path / "disk" / "moved")) == (["bytes"], True, ["moved"])


def test_missing_dataset_names_the_whole_command(data):
    """A run was moved to another machine, where ``prepare.py`` alone would prepare the default dataset."""
    with pytest.raises(UserError, match=r"d/bytes: .* not prepared yet: type gpt2lab prepare data=text_files") as error:
        open_dataset(data, BYTES)
    assert prepare_command(data, BYTES) in str(error.value)
    mixture = MixtureConfig(name="m", root=data.root, mixture={"d": 1.0})
    with pytest.raises(UserError, match="d/bytes: .* type gpt2lab prepare with its data= and tokenizer=bytes first"):
        open_dataset(mixture, BYTES)


@pytest.mark.parametrize("function", [open_or_prepare, open_dataset])
def test_overwrite_of_a_dataset_of_a_mixture_is_undone(data, function):
    prepare(data, PrepareConfig(), BYTES)
    folder = dataset_folder(data, BYTES)
    folder.rename(folder.with_name(".bytes.old"))
    function(MixtureConfig(root=data.root, mixture={"d": 1}), BYTES)
    assert names(folder) == ["bytes"]


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("file", ["train_000000.npy", "val_000000.starts.npy", "tokenizer.json"])
def test_flipped_byte_in_any_dataset_of_a_mixture_is_found(data, file, monkeypatch):
    tokenizer = UntrainedBPE(270)
    for name in ("d", "e"):
        prepare(dataclasses.replace(data, name=name), PrepareConfig(), tokenizer)
    mixture = MixtureConfig(root=data.root, mixture={"d": 1, "e": 1})
    root, manifest = open_or_prepare(mixture, tokenizer)
    changed = root / "e" / tokenizer.name / file
    flip_a_byte(changed)
    with pytest.raises(UserError, match=rf"{changed}: has changed since it was prepared \(SHA-256 differs\)") as error:
        open_or_prepare(mixture, tokenizer)
    assert "\n" not in str(error.value)
    size = 2 * sum(split.tokens for split in manifest.splits.values())
    monkeypatch.setattr("gpt2lab.data.datasets.VERIFY_LIMIT_BYTES", size)  # all datasets together
    assert open_or_prepare(mixture, tokenizer)[1].fingerprint == manifest.fingerprint


def test_prepare_after_a_killed_overwrite_does_not_lose_the_old_dataset(data):
    prepare(data, PrepareConfig(), BYTES)
    folder = dataset_folder(data, BYTES)
    folder.rename(folder.with_name(".bytes.old"))
    with pytest.raises(UserError, match="exists already"):
        prepare(data, PrepareConfig(), BYTES)
    folder.rename(folder.with_name(".bytes.old"))
    changed = dataclasses.replace(data, val_fraction=1e-9)  # an empty split: preparing fails
    with pytest.raises(UserError, match="fell into train"):
        prepare(changed, PrepareConfig(overwrite=True), BYTES)
    assert names(folder) == ["bytes"]
    assert prepare(data, PrepareConfig(overwrite=True), BYTES) == load_manifest(folder)
    assert names(folder) == ["bytes"]


@pytest.mark.parametrize(("version", "missing"), [(2, ["tokenizer_files"]), (1, ["tokenizer_files", "deduplicate"])])
def test_datasets_of_earlier_versions_are_read(data, version, missing):
    manifest = prepare(data, PrepareConfig(), BYTES)
    path = dataset_folder(data, BYTES) / "manifest.json"
    values = json.loads(path.read_text()) | {"version": version}
    for key in missing:
        del values[key]
    path.write_text(json.dumps(values))
    _, opened = open_or_prepare(data, BYTES)
    assert opened == dataclasses.replace(manifest, version=version)
    with pytest.raises(UserError, match=r"data\.deduplicate=False there, data\.deduplicate=True here"):
        open_or_prepare(dataclasses.replace(data, deduplicate=True), BYTES)


def test_mixture_of_datasets_with_their_own_vocabularies_is_refused(data, tmp_path):
    (tmp_path / "b.txt").write_text("|".join(f"another text {i * i} " * (i % 5 + 1) for i in range(120)))
    prepare(data, PrepareConfig(), UntrainedBPE(270))
    prepare(dataclasses.replace(data, name="e", files=[f"{tmp_path}/b.txt"]), PrepareConfig(), UntrainedBPE(270))
    mixture = MixtureConfig(root=data.root, mixture={"d": 1, "e": 1})
    with pytest.raises(UserError, match=r"data\.mixture=.*: expected one tokenizer for all datasets, found d .*, e "):
        open_or_prepare(mixture, UntrainedBPE(270))
