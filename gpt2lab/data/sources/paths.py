"""Where the names of source files lead, and where files are that were moved since a dataset was prepared."""

import glob
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpt2lab.config.escapes import expand_home
from gpt2lab.files import file_sha256


def matches(pattern: str) -> list[str]:
    """The names that match a pattern; one without wildcards matches itself, whether it exists or not."""
    path = Path(expand_home(pattern))
    if path.exists() or not glob.has_magic(pattern):
        return [str(path)]
    return glob.glob(str(path), recursive=True)  # noqa: PTH207 (leaves hidden files out)


class ResolvedPath(NamedTuple):
    """Where a name leads."""

    real: str
    """the path without links"""
    size: int | None
    """bytes; None if there is no file"""


def locate(names: Iterable[str]) -> dict[str, ResolvedPath]:
    """Where each name leads; each folder and file is looked up once, as there may be hundreds of thousands."""
    folders: dict[str, str] = {}
    places: dict[str, ResolvedPath] = {}
    for name in names:
        if name in places:
            continue
        last = name.rpartition("/")[2]
        folder = name.removesuffix(last)
        real = None
        try:
            status = os.lstat(name)
            if stat.S_ISLNK(status.st_mode) or last in ("", ".", ".."):
                real = os.path.realpath(name)
                status = os.stat(name)  # noqa: PTH116 (fast)
            size = status.st_size if stat.S_ISREG(status.st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            size = None
        if real is None:
            if folder not in folders:
                folders[folder] = os.path.realpath(folder or ".").rstrip("/")
            real = f"{folders[folder]}/{last}"
        places[name] = ResolvedPath(real, size)
    return places


def distinct(paths: Sequence[Path]) -> list[Path]:
    """``paths`` in order, without those that lead to the same file as an earlier one."""
    places = locate(map(str, paths))
    first: dict[str, Path] = {}
    for path in paths:
        first.setdefault(places[str(path)].real, path)
    return list(first.values())


def find_moved(
    recorded: Mapping[str, Mapping[str, Any]], named: Mapping[str, int | None], hashing: bool
) -> dict[str, Mapping[str, Any]]:
    """Return the recorded files by the paths at which they are now.

    One that is not at its path may be a file of other names with the same bytes: it was moved, or its recorded path is
    relative to another folder.

    Args:
        recorded: files of a prepared dataset by path.
        named: paths that ``data.files`` names, each with its size, None without a file.
        hashing: whether files have the same bytes is told by their hash; False: by size and name.
    """
    gone: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for path, file in recorded.items():
        if path not in named and not Path(path).is_file():
            gone[file["bytes"], file["sha256"] if hashing else Path(path).name].append(path)
    sizes = {size for size, _ in gone}
    now = dict(recorded)
    for path, size in named.items():
        if path not in recorded and size is not None and size in sizes:
            same = gone[size, file_sha256(Path(path)) if hashing else Path(path).name]
            if same:
                now[path] = now.pop(same.pop())
    return now
