"""Builds a prepared dataset: the loop that takes tokenized chunks, writes shards and saves its progress.

All files are written into a hidden folder, ``.<tokenizer>.new``, which gets its final name when it is complete. Every
``SAVE_SECONDS`` the progress file records how far the files are valid. After a kill, the same command truncates them to
that point and resumes.
"""

import hashlib
import itertools
import json
import logging
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gpt2lab.config import PrepareConfig, UserError, choose
from gpt2lab.data.manifest import (
    END_OF_TEXT_RULE,
    FORMAT,
    SPLIT_RULE,
    SPLITS,
    VERSION,
    Manifest,
    Split,
    TextTokenizer,
    TrainableTokenizer,
    TrainedTokenizer,
    dataset_fingerprint,
    token_dtype,
    write_manifest,
)
from gpt2lab.data.preparation.backends import BACKENDS, Backend, InProcess
from gpt2lab.data.preparation.duplicates import SeenDocuments
from gpt2lab.data.preparation.overwriting import hidden_folders
from gpt2lab.data.preparation.shards import ShardWriter
from gpt2lab.data.preparation.tokenization import ChunkTokenizer, TokenizedChunk, TokenizedDocuments
from gpt2lab.data.preparation.training_text import training_documents
from gpt2lab.data.sources import Problem, Source
from gpt2lab.data.sources.base import CHUNK_BYTES, stop_or_skip
from gpt2lab.files import file_sha256, not_written, parse_json, rename_over, sync_folder, write_synced
from gpt2lab.processes import available_cores

log = logging.getLogger(__name__)

SAVE_SECONDS = 2.0
"""Time between two saves of the progress file: the work that a kill can cost"""

LINE_SECONDS = 60.0
"""Time between two lines on the progress where there is no terminal for a bar, as in a batch job"""

SMALL_SOURCE_BYTES = 4 * 1024**2
"""Below this size, starting worker processes takes longer than the work."""

SHOWN_PROBLEMS = 5
"""of each kind; all are counted"""


def build_dataset(
    folder: Path, source: Source, settings: PrepareConfig, tokenizer: TextTokenizer | TrainableTokenizer
) -> Manifest:
    """Write the dataset into a hidden folder and move it to ``folder``; the caller holds the lock of the parent folder.

    A tokenizer that is yet to be trained is trained first, and saved in the dataset's folder.

    Raises:
        UserError: the source cannot be read, or a split would be empty.
    """
    new, old = hidden_folders(folder)
    shutil.rmtree(old, ignore_errors=True)
    identity = source.identity()
    if warning := source.warning():
        log.warning("%s", warning)
    trained: TrainedTokenizer | None = None
    encoder: TextTokenizer
    if isinstance(tokenizer, TrainableTokenizer):
        log.info("training %s on the training split", " ".join(tokenizer.overrides))
        encoder = trained = tokenizer.train(training_documents(source))
    else:
        encoder = tokenizer
    work = Preparation(new, source, settings, encoder)
    try:
        splits = work.run()
        description = source.describe()
        if source.identity() != identity:
            work.progress_file.unlink(missing_ok=True)
            raise UserError(
                f"{source.label()}: changed while it was read, so that part of it may be missing: expected text that "
                "no program writes to: wait until it is complete and type the command again"
            )
        tokenizer_files = dict(trained.files) if trained else {}
        for name, content in tokenizer_files.items():
            (new / name).write_text(content, encoding="utf-8", newline="\n")
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            tokenizer=encoder.name,
            vocab_size=encoder.vocab_size,
            eot_id=encoder.eot_id,
            tokenizer_fingerprint=encoder.fingerprint,
            end_of_text_rule=END_OF_TEXT_RULE,
            split_rule=source.split_rule or SPLIT_RULE,
            val_fraction=source.val_fraction,
            dtype=token_dtype(encoder.vocab_size).name,
            source=description,
            skipped=dict(sorted(work.skipped.items())),
            splits=splits,
            fingerprint=dataset_fingerprint(encoder.fingerprint, splits),
            deduplicate=source.deduplicate,
            tokenizer_files={name: file_sha256(new / name) for name in tokenizer_files},
        )
        write_manifest(new, manifest)
        work.progress_file.unlink(missing_ok=True)
        work.seen.file.unlink(missing_ok=True)
        rename_over(new, folder, old)
    except OSError as error:
        if error.filename is not None:  # a file of the source
            raise
        raise not_written(new, source.size_bytes(), error) from error
    finally:
        if not work.progress_file.exists():  # there is nothing to resume from
            shutil.rmtree(new, ignore_errors=True)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
    return manifest


def _has(path: Path, size: int) -> bool:
    """Whether a file has at least ``size`` bytes; what comes after them was written later."""
    return path.is_file() and path.stat().st_size >= size


class Preparation:
    """Writes the shards of a dataset into a folder, from the beginning or from the progress file in it."""

    def __init__(self, folder: Path, source: Source, settings: PrepareConfig, tokenizer: TextTokenizer) -> None:
        self.source, self.settings, self.tokenizer = source, settings, tokenizer
        self.name = folder.parent.name
        self.progress_file = folder / "progress.json"
        self.skipped: Counter[str] = Counter()
        """reason -> documents of the source that are not in the dataset"""
        self._identity = [
            VERSION, CHUNK_BYTES, tokenizer.fingerprint, settings.shard_tokens, source.val_fraction, source.deduplicate,
            json.loads(json.dumps(source.identity())),
        ]  # fmt: skip
        state = self._read_progress()
        if state is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        self.seen = SeenDocuments(folder / "digests")
        self._writers = {split: ShardWriter(folder, split, tokenizer, settings.shard_tokens) for split in SPLITS}
        self._chunks_done = 0
        if state is not None:
            self._chunks_done = state["chunks"]
            self.skipped.update(state["skipped"])
            self.seen.restore(state["digests"])
            for split, writer in self._writers.items():
                writer.restore(state["writers"][split])
            log.info("resuming after %s documents", f"{self._documents:,}")

    def run(self) -> dict[str, Split]:
        """Write the shards of both splits; a ``UserError`` if one has no document."""
        size = self.source.size_bytes()
        chunks = self.source.chunks()
        first = done = sum(chunk.size for chunk in itertools.islice(chunks, self._chunks_done))
        started = saved = shown = time.monotonic()
        with (
            self._writers["train"], self._writers["val"], self.seen, self._backend(size) as backend,
            tqdm(total=size or None, initial=done, unit="B", unit_scale=True, desc=self.name, disable=None) as bar,
        ):  # fmt: skip
            for result in backend.results(chunks):
                self._take(result)
                bar.set_postfix(documents=f"{self._documents:,}", tokens=f"{self._tokens:,}", refresh=False)
                bar.update(result.size)
                done += result.size
                if bar.disable and (now := time.monotonic()) - shown >= LINE_SECONDS:
                    self._log_progress(done, size, (done - first) / (now - started))
                    shown = now
                if time.monotonic() - saved >= SAVE_SECONDS:
                    self._write_progress()
                    saved = time.monotonic()
            self._require_both_splits()
            return {split: writer.finish() for split, writer in self._writers.items()}

    def _log_progress(self, done: int, size: int, bytes_per_second: float) -> None:
        """Log what is prepared, and the time left where the size of the source is known (0: it is not)."""
        left = ""
        if size > done and bytes_per_second > 0:
            minutes = (size - done) / bytes_per_second / 60
            left = f", {100 * done / size:.1f} % of the text, about {minutes:.0f} min left"
        log.info("%s: %s documents, %s tokens%s", self.name, f"{self._documents:,}", f"{self._tokens:,}", left)

    def _backend(self, size: int) -> Backend:
        make_backend = choose(BACKENDS, self.settings.backend, "prepare.backend")
        workers = self.settings.num_workers
        if workers is None:
            workers = 0 if self._is_small(size) else len(available_cores())
        tokenize = ChunkTokenizer(self.source, self.tokenizer, self.source.deduplicate)
        return make_backend(tokenize, workers) if workers else InProcess(tokenize, 0)

    def _is_small(self, size: int) -> bool:
        return self.settings.backend == "local" and self.source.local and size < SMALL_SOURCE_BYTES

    def _take(self, result: TokenizedChunk) -> None:
        for problem in result.problems:
            self._leave_out(problem)
        if result.empty:
            self.skipped["empty"] += result.empty
        for writer, documents in zip(self._writers.values(), (result.train, result.val), strict=True):
            if len(documents.lengths_D):
                new = self._without_copies(documents) if self.source.deduplicate else documents
                writer.add(new.tokens_N, new.lengths_D, int(new.text_bytes_D.sum()))
        self._chunks_done += 1

    def _leave_out(self, problem: Problem) -> None:
        stop_or_skip(problem, self.source)
        self.skipped[problem.reason] += problem.documents
        if problem.message and self.skipped[problem.reason] <= SHOWN_PROBLEMS:
            log.warning("left out: %s", problem.message)

    def _without_copies(self, documents: TokenizedDocuments) -> TokenizedDocuments:
        first_D = self.seen.add(documents.digests)
        if copies := len(first_D) - int(first_D.sum()):
            self.skipped["duplicate"] += copies
        return TokenizedDocuments(
            documents.tokens_N[np.repeat(first_D, documents.lengths_D)],
            documents.lengths_D[first_D],
            documents.text_bytes_D[first_D],
            b"",
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
            raise UserError(f"{self.source.label()}: expected text, found none: name files that are not empty")
        if documents == 1:
            raise UserError(
                f"{self.source.label()}: the text is a single document, expected at least two, one of them for "
                f"validation: {self.source.how_to_divide()}"
            )
        if not all(writer.documents for writer in self._writers.values()):
            raise UserError(
                f"data.val_fraction={self.source.val_fraction}: all {documents} documents fell into "
                f"{'train' if self._writers['train'].documents else 'val'}, expected some in each split: try "
                f"data.val_fraction={min(0.5, 10 / documents):.1g}, or take more documents"
            )

    def _read_progress(self) -> dict[str, Any] | None:
        """The state to resume from, if there is one of the same text and settings."""
        if not self.progress_file.is_file():
            return None
        digest, _, content = self.progress_file.read_bytes().partition(b"\n")
        if digest != hashlib.sha256(content).hexdigest().encode():
            log.warning("%s: damaged: starting again from the first document", self.progress_file)
            return None
        state = parse_json(content, self.progress_file)
        if missing := [
            name for name, size in state["files"].items() if not _has(self.progress_file.parent / name, size)
        ]:
            log.warning("%s: missing or cut off: starting again from the first document", missing[0])
            return None
        if state["identity"] == self._identity and (self.source.skip_unreadable or not state["skip_unreadable"]):
            return state
        return None

    def _write_progress(self) -> None:
        state = {
            "identity": self._identity,
            "skip_unreadable": self.source.skip_unreadable,
            "chunks": self._chunks_done,
            "skipped": self.skipped,
            "digests": self.seen.state(),
            "writers": {split: writer.state() for split, writer in self._writers.items()},
        }
        state["files"] = {
            path.name: path.stat().st_size
            for path in self.progress_file.parent.iterdir()
            if path.suffix == ".npy" or path == self.seen.file
        }
        content = json.dumps(state).encode()
        new = self.progress_file.with_suffix(".tmp")
        write_synced(new, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        new.replace(self.progress_file)
        sync_folder(self.progress_file.parent)
