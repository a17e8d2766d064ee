"""Where the names of files lead."""

import os
from pathlib import Path

from gpt2lab.data.sources.paths import find_moved, locate


def test_names_lead_where_the_operating_system_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a/b").mkdir(parents=True)
    Path("a/b/file").write_bytes(b"12345")
    Path("top").write_bytes(b"1")
    Path("link").symlink_to("a/b/file")
    Path("folder").symlink_to("a/b")
    Path("dangling").symlink_to("a/gone")
    names = [
        "top", "./top", "a/b/file", "a//b/file", "a/b/../b/file", "folder/file", "link", "dangling", "folder", "a/b/",
        "a/b/..", ".", "..", "gone", "folder/gone", "gone/gone", "top/file", "/", "/top", str(tmp_path / "top"),
    ]  # fmt: skip
    for name, (real, size) in locate([*names, *names]).items():
        assert real == os.path.realpath(name), name
        assert size == (Path(name).stat().st_size if Path(name).is_file() else None), name


def test_moved_files_are_found_by_their_bytes_or_by_size_and_name(tmp_path):
    paths = [str(tmp_path / name) for name in ("new/a", "new/b", "new/c", "kept")]
    (tmp_path / "new").mkdir()
    for path, content in zip(paths, ["", "", "text", "kept"], strict=True):
        Path(path).write_text(content)
    sha256 = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"  # of "text"
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    sizes = {"/old/x": (0, empty), "/old/y": (0, empty), "/old/c": (4, sha256), paths[3]: (4, ""), "/old/z": (9, "")}
    recorded = {path: {"bytes": size, "sha256": found} for path, (size, found) in sizes.items()}
    named = {path: os.path.getsize(path) for path in paths} | {"/new/none": None}  # noqa: PTH202
    assert find_moved(recorded, named, hashing=True).keys() == {*paths, "/old/z"}
    assert find_moved(recorded, named, hashing=False).keys() == {"/old/x", "/old/y", *paths[2:], "/old/z"}
