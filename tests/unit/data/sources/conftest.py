"""A folder in the form of a Hub repository."""

import os

import pytest

from tests.unit.data.sources.table_files import TEXTS, write_parquet


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
