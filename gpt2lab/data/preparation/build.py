"""A source's pieces -> tokenised by an engine -> shards, with a journal to go on from -> one rename into place.

Everything is written into a hidden folder beside the set's own, so that a set is either whole or not there. Every few
seconds the journal notes how far the files are good; the same command after a kill cuts them there and goes on.
"""

import fcntl
import itertools
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gpt2lab.config import DataConfig, PrepareConfig, UserError, choose
from gpt2lab.data.preparation.duplicates import SeenDocuments
from gpt2lab.data.preparation.backends import ENGINES, Engine, InProcess
from gpt2lab.data.manifest import (
    END_OF_TEXT_RULE,
    FORMAT,
    SPLIT_RULE,
    SPLITS,
    VERSION,
    Manifest,
    Split,
    TextTokenizer,
    set_fingerprint,
    token_dtype,
    write_manifest,
)
from gpt2lab.data.preparation.shards import ShardWriter
from gpt2lab.data.sources import Problem, Source
from gpt2lab.data.sources.base import PIECE_BYTES
from gpt2lab.data.preparation.tokenization import Side, Tokenised, Tokeniser
from gpt2lab.files import sync, sync_folder

log = logging.getLogger(__name__)

JOURNAL_SECONDS = 2.0
"""Work that a kill can cost"""

SMALL_SOURCE_BYTES = 4 * 1024**2
"""Below this size, starting worker processes takes longer than the work."""

SHOWN_PROBLEMS = 5
"""of each kind; all are counted"""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold ``folder``, made if need be, against other processes; the lock goes when the process does.

    The folder is removed again if nothing was put into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        os.close(handle)


def build(
    folder: Path, source: Source, data: DataConfig, settings: PrepareConfig, tokenizer: TextTokenizer
) -> Manifest:
    """Write the whole set beside ``folder`` and put it there; the caller holds the parent folder."""
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    work = Build(new, source, data, settings, tokenizer)
    try:
        splits = work.run()
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            tokenizer=tokenizer.name,
            vocab_size=tokenizer.vocab_size,
            eot_id=tokenizer.eot_id,
            tokenizer_fingerprint=tokenizer.fingerprint,
            end_of_text_rule=END_OF_TEXT_RULE,
            split_rule=source.split_rule or SPLIT_RULE,
            val_fraction=None if source.split_rule else data.val_fraction,
            dtype=token_dtype(tokenizer.vocab_size).name,
            source=source.describe(),
            skipped=dict(sorted(work.skipped.items())),
            splits=splits,
            fingerprint=set_fingerprint(tokenizer.fingerprint, splits),
            deduplicate=data.deduplicate,
        )
        write_manifest(new, manifest)
        work.journal.unlink(missing_ok=True)
        work.seen.file.unlink(missing_ok=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        if not work.journal.exists():  # nothing to go on from
            shutil.rmtree(new, ignore_errors=True)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
    return manifest


def available_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Build:
    """A set under way in a folder, from its beginning or from its journal."""

    def __init__(
        self, folder: Path, source: Source, data: DataConfig, settings: PrepareConfig, tokenizer: TextTokenizer
    ) -> None:
        self.source, self.data, self.settings, self.tokenizer = source, data, settings, tokenizer
        self.journal = folder / "journal.json"
        self.skipped: Counter[str] = Counter()
        """reason -> documents of the source that are not in the set"""
        self._identity = [
            VERSION, PIECE_BYTES, tokenizer.fingerprint, settings.shard_tokens, data.val_fraction, data.deduplicate,
            json.loads(json.dumps(source.identity())),
        ]  # fmt: skip
        state = self._read_journal()
        if state is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        self.seen = SeenDocuments(folder / "digests")
        self._writers = {split: ShardWriter(folder, split, tokenizer, settings.shard_tokens) for split in SPLITS}
        self._pieces_done = 0
        if state is not None:
            self._pieces_done = state["pieces"]
            self.skipped.update(state["skipped"])
            self.seen.restore(state["digests"])
            for split, writer in self._writers.items():
                writer.restore(state["writers"][split])
            log.info("going on after %s documents", f"{self._documents:,}")

    def run(self) -> dict[str, Split]:
        """Write the shards of both splits; a ``UserError`` if one has no document."""
        size = self.source.size_bytes()
        pieces = self.source.pieces()
        done = sum(piece.size for piece in itertools.islice(pieces, self._pieces_done))
        saved = time.monotonic()
        with (
            self._writers["train"], self._writers["val"], self.seen, self._engine(size) as engine,
            tqdm(total=size or None, initial=done, unit="B", unit_scale=True, desc=self.data.name, disable=None) as progress,
        ):  # fmt: skip
            for result in engine.results(pieces):
                self._take(result)
                progress.set_postfix(documents=f"{self._documents:,}", tokens=f"{self._tokens:,}", refresh=False)
                progress.update(result.size)
                if time.monotonic() - saved >= JOURNAL_SECONDS:
                    self._write_journal()
                    saved = time.monotonic()
            self._require_both_splits()
            return {split: writer.finish() for split, writer in self._writers.items()}

    def _engine(self, size: int) -> Engine:
        make, workers = choose(ENGINES, self.settings.engine, "prepare.engine"), self.settings.num_workers
        if workers is None:
            workers = 0 if self._is_small(size) else available_cpus()
        tokeniser = Tokeniser(self.source, self.tokenizer, self.data.val_fraction, self.data.deduplicate)
        return make(tokeniser, workers) if workers else InProcess(tokeniser, 0)

    def _is_small(self, size: int) -> bool:
        return self.settings.engine == "local" and self.source.local and size < SMALL_SOURCE_BYTES

    def _take(self, result: Tokenised) -> None:
        for problem in result.problems:
            self._note(problem)
        if result.empty:
            self.skipped["empty"] += result.empty
        for writer, side in zip(self._writers.values(), (result.train, result.val), strict=True):
            if len(side.lengths_D):
                new = self._without_copies(side) if self.data.deduplicate else side
                writer.add(new.tokens_N, new.lengths_D, int(new.text_bytes_D.sum()))
        self._pieces_done += 1

    def _note(self, problem: Problem) -> None:
        if problem.message and self.data.on_error == "stop":
            raise UserError(f"{problem.message}; or leave such documents out with data.on_error=skip")
        self.skipped[problem.reason] += problem.documents
        if problem.message and self.skipped[problem.reason] <= SHOWN_PROBLEMS:
            log.warning("left out: %s", problem.message)

    def _without_copies(self, side: Side) -> Side:
        first_D = self.seen.add(side.digests)
        if copies := len(first_D) - int(first_D.sum()):
            self.skipped["duplicate"] += copies
        return Side(
            side.tokens_N[np.repeat(first_D, side.lengths_D)], side.lengths_D[first_D], side.text_bytes_D[first_D], b""
        )

    @property
    def _documents(self) -> int:
        return sum(writer.documents for writer in self._writers.values())

    @property
    def _tokens(self) -> int:
        return sum(writer.tokens for writer in self._writers.values())

    def _require_both_splits(self) -> None:
        documents = self._documents
        if documents == 0:
            where = f"data.files=[{','.join(self.data.files)}]" if self.data.files else f"data={self.data.source}"
            raise UserError(f"{where}: expected text, found none: name files that are not empty")
        if not all(writer.documents for writer in self._writers.values()):
            raise UserError(
                f"data.val_fraction={self.data.val_fraction}: all {documents} documents fell into "
                f"{'train' if self._writers['train'].documents else 'val'}, expected some in each split: another "
                "data.val_fraction, or more documents by data.delimiter or a smaller data.min_document_bytes"
            )

    def _read_journal(self) -> dict[str, Any] | None:
        """The state to go on from, if there is one and it is of the same text and settings."""
        with suppress(OSError, ValueError):
            state: dict[str, Any] = json.loads(self.journal.read_text(encoding="utf-8"))
            if state["identity"] == self._identity and (self.data.on_error == "skip" or state["on_error"] == "stop"):
                return state
        return None

    def _write_journal(self) -> None:
        state = {
            "identity": self._identity,
            "on_error": self.data.on_error,
            "pieces": self._pieces_done,
            "skipped": self.skipped,
            "digests": self.seen.state(),
            "writers": {split: writer.state() for split, writer in self._writers.items()},
        }
        new = self.journal.with_suffix(".tmp")
        with new.open("w", encoding="utf-8") as file:
            file.write(json.dumps(state))  # json.dump takes ten times as long
            sync(file)
        new.replace(self.journal)
        sync_folder(self.journal.parent)
