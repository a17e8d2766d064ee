"""What is scored: a corpus as documents, in the forms that corpora are handed around in.

    file | Hub | the run's validation split -> rows as the Hub gives them -> documents

A new format is a class here, an entry of ``CORPUS_FORMATS``, and a YAML file under ``configs/eval/corpus/``.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import CorpusConfig, EvalConfig, UserError, choose
from gpt2lab.data import TokenStream, open_dataset, verify
from gpt2lab.evaluation.corpora.chunks import count_words, text_chunks
from gpt2lab.evaluation.corpora.detokenize import DETOKENIZERS
from gpt2lab.evaluation.corpora.reading import HubDatasetRef, fetch_rows, has_utf8, read_json_lines, read_utf8
from gpt2lab.evaluation.text_model import TextModel


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its UTF-8 text, and its stored rows and token ids where there are any."""

    content: bytes
    """in UTF-8"""
    stored_rows: list[str] | None = None
    """the same as the Hub's rows, which may be single lines; None: the text is one row"""
    tokens: NDArray[np.integer] | None = None
    """its ids, where they are stored; None: to be encoded"""

    @classmethod
    def of(cls, text: str, rows: list[str] | None = None) -> "Document":
        """The document of a string."""
        return cls(text.encode("utf-8"), rows)

    @property
    def text(self) -> str:
        """The whole text."""
        return self.content.decode("utf-8")

    @property
    def rows(self) -> list[str]:
        """See ``stored_rows``."""
        return [self.text] if self.stored_rows is None else self.stored_rows

    def count_words(self) -> int:
        """Number of words separated by white space."""
        return count_words(self.content)

    def count_line_ends(self) -> int:
        """Lines; blank ones count, and so does a last one that is not ended."""
        if self.stored_rows is None:
            return self.content.count(b"\n") + (not self.content.endswith(b"\n"))
        return sum(row.count("\n") + (not row.endswith("\n")) for row in self.stored_rows)

    def is_blank(self) -> bool:
        """Whether there is white space alone."""
        return all(chunk.isspace() for chunk in text_chunks(self.content))


@dataclass(frozen=True)
class Corpus:
    """The documents of a corpus, in order, and the separator that joins them."""

    documents: list[Document]
    separator: str
    """between two documents where they are joined to one text"""
    description: dict[str, Any]
    """what it is, for ``eval.json``"""


class Format(ABC):
    """Reads corpora of one format."""

    @abstractmethod
    def read(self, config: CorpusConfig, loaded: TextModel) -> Corpus:
        """The corpus that ``config`` names; a ``UserError`` if it cannot be read or fetched, or holds no text."""


class ValidationSplit(Format):
    """The documents of the validation split, as they are stored."""

    def read(self, config: CorpusConfig, loaded: TextModel) -> Corpus:
        """See ``Format.read``; also a ``UserError`` for a dataset that is not the one the model was trained on."""
        source, tokenizer = loaded.source, loaded.tokenizer
        if source.trained_on is None:
            raise UserError(f"{source.describe()} has no validation split: name a text to score, eval.text_file=FILE")
        folder, manifest = open_dataset(source.trained_on.data, tokenizer)
        if manifest.fingerprint != source.trained_on.fingerprint:
            raise UserError(
                f"{folder} is data {manifest.fingerprint[:12]}, the model was trained on "
                f"{source.trained_on.fingerprint[:12]}: its validation split may hold training text; "
                "restore that dataset, or name a text with eval.text_file="
            )
        verify(folder, manifest)
        stream = TokenStream(folder, manifest, "val")
        tokens = stream.read(0, len(stream))
        documents = []
        for part in np.split(tokens, np.flatnonzero(tokens == tokenizer.eot_id))[1:]:
            text = tokenizer.decode(part[1:].tolist())
            documents.append(Document(text.encode("utf-8"), tokens=part[1:]))
        description = {
            "text": f"validation split of {folder}",
            "split": "val",
            "data_fingerprint": manifest.fingerprint,
        }
        return Corpus(documents, "\n\n", description)


class TextRows(Format):
    """Rows of one text field, out of a file or off the Hub. A file that is not .jsonl is the text itself."""

    separator: ClassVar = "\n\n"

    def read(self, config: CorpusConfig, loaded: TextModel) -> Corpus:
        """See ``Format.read``."""
        description: dict[str, Any]
        if config.file:
            path = Path(config.file)
            description = {"text": str(path)}
            if path.suffix == ".jsonl":
                _check_whole(config, str(path))
                rows = (row[config.column] for row in read_json_lines(path, (config.column,)))
                documents = self.documents(_checked_rows(rows, config, description))
            else:
                documents = self.documents_of(read_utf8(path, config.first_byte, config.last_byte))
        elif config.hub_path:
            _check_whole(config, config.hub_path)
            place = HubDatasetRef(config.hub_path, config.hub_subset, config.hub_revision, config.hub_split)
            fetched = fetch_rows(place, (config.column,), f"fetch {config.get} and type eval.corpus.file=FILE")
            description = {"text": config.name, "hub": place.describe()}
            documents = self.documents(_checked_rows((row[config.column] for row in fetched), config, description))
        else:
            raise UserError(f"eval/corpus={config.name}: fetch {config.get or 'a text'} and type eval.corpus.file=FILE")
        documents = [document for document in documents if not document.is_blank()]
        if not documents:
            raise UserError(f"{description['text']}: expected text, there is none")
        digest = hashlib.sha256(documents[0].content)
        for document in documents[1:]:
            digest.update(b"\0")
            digest.update(document.content)
        split = {"split": config.hub_split} if config.hub_path else {}  # a text of the user's own is no split
        return Corpus(documents, self.separator, {**description, **split, "sha256": digest.hexdigest()})

    def documents_of(self, content: bytes) -> list[Document]:
        """The documents of a file that holds the text itself: one."""
        return [Document(content)]

    def documents(self, rows: list[str]) -> list[Document]:
        """The rows put together to documents: each is one."""
        return [Document.of(row) for row in rows]


class RowsInFile(TextRows):
    """Rows that a file holds as lines."""

    def documents_of(self, content: bytes) -> list[Document]:
        """See ``TextRows.documents_of``."""
        return self.documents(self.rows_of(content.decode("utf-8")))

    @abstractmethod
    def rows_of(self, text: str) -> list[str]:
        """A file's text as the rows that the Hub has of it."""


class Lines(RowsInFile):
    """A sentence a row, in the order of a text whose documents are not told apart (Penn Treebank)."""

    separator: ClassVar = "\n"

    def rows_of(self, text: str) -> list[str]:
        """See ``RowsInFile.rows_of``."""
        return [line.strip() for line in text.split("\n") if line.strip()]

    def documents(self, rows: list[str]) -> list[Document]:
        """See ``TextRows.documents``: one."""
        return [Document.of("\n".join(rows), rows)]


class WikiText(RowsInFile):
    """One row per line. A line " = Title = " begins an article; " = = Section = = " does not.

    The Hub's rows are lines with their ends, and "" for the blank line " \\n" of the file. Articles are cut as in
    EleutherAI/wikitext_document_level, on which lm-evaluation-harness takes its values.
    """

    separator: ClassVar = "\n"

    def rows_of(self, text: str) -> list[str]:
        """See ``RowsInFile.rows_of``."""
        lines = text.split("\n")
        return [line + "\n" if line.strip() else "" for line in (lines[:-1] if lines[-1] == "" else lines)]

    def documents(self, rows: list[str]) -> list[Document]:
        """See ``TextRows.documents``: articles."""
        documents: list[Document] = []
        lines: list[str] = []
        rows_of_article: list[str] = []
        for row in rows:
            line = row.removesuffix("\n") if row.strip() else " "
            if self._is_title(line):
                if any(map(str.strip, lines)):
                    documents.append(Document.of("\n".join(lines), rows_of_article))
                    rows_of_article = []
                lines = []
            lines.append(line)
            rows_of_article.append(row)
        return [*documents, Document.of("\n".join([*lines, ""]), rows_of_article)]  # the file ends with a line end

    @staticmethod
    def _is_title(line: str) -> bool:
        merged = line.replace("= = =", "===").replace("= =", "==").strip()
        return merged.startswith("= ") and merged.endswith(" =")


CORPUS_FORMATS: dict[str, type[Format]] = {
    "validation_split": ValidationSplit,
    "text": TextRows,
    "documents": TextRows,
    "lines": Lines,
    "wikitext": WikiText,
}


def open_corpus(config: CorpusConfig, loaded: TextModel) -> Corpus:
    """The corpus that ``config`` names.

    Raises:
        UserError: an unknown format or detokenizer, or it cannot be read or fetched, with where to put which file.
    """
    choose(DETOKENIZERS, config.detokenizer, "eval.corpus.detokenizer")
    return choose(CORPUS_FORMATS, config.format, "eval.corpus.format")().read(config, loaded)


def _check_whole(config: CorpusConfig, where: str) -> None:
    """Raise ``UserError`` where a range of bytes is set for a corpus that is read as rows."""
    for key, value, whole in (("first_byte", config.first_byte, "0"), ("last_byte", config.last_byte, "null")):
        if value:
            raise UserError(f"eval.corpus.{key}={value}: {where} has rows, of which all are scored; expected {whole}")


def _checked_rows(rows: Iterable[object], config: CorpusConfig, description: dict[str, Any]) -> list[str]:
    """The rows; one that is not Unicode text is a ``UserError``."""
    checked: list[str] = []
    for row in rows:
        if not (isinstance(row, str) and has_utf8(row)):
            raise UserError(f"{description['text']}: field {config.column} is {row!r:.60}, expected text in Unicode")
        checked.append(row)
    return checked


def chosen_corpus(config: EvalConfig) -> CorpusConfig:
    """The corpus that an evaluation is on: ``text_file`` where it is given, else ``corpus``."""
    if config.text_file:
        return CorpusConfig(name="text_file", format="text", file=config.text_file)
    return config.corpus
