"""What all sources have in common: the split by hash, where files are, and the packages that some of them need."""

import pytest

from gpt2lab.config import (
    DATA_SOURCES,
    HubConfig,
    PrepareConfig,
    PythonStdlibConfig,
    UserError,
)
from gpt2lab.data import dataset_folder, prepare
from tests.unit.data.sources.table_files import BYTES, TEXTS, read, rows, source, write_jsonl, write_parquet


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
