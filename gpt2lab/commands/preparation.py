"""Prepare a corpus: job -> token shards and a manifest."""

import logging
from collections.abc import Sequence
from pathlib import Path

from gpt2lab import data
from gpt2lab.config import PrepareJob, check_kind
from gpt2lab.data import dataset_folder, describe_dataset, open_dataset, verify
from gpt2lab.tokenizers import load_tokenizer, open_tokenizer

log = logging.getLogger(__name__)


def prepare(job: PrepareJob, *, command: Sequence[str] | None = None) -> Path:
    """Prepare the dataset, or check or describe an existing one; returns its folder."""
    check_kind(job, PrepareJob, "job", 'compose_config("prepare", [...])')
    tokenizer = open_tokenizer(job.tokenizer)
    if job.verify or job.inspect:
        folder, manifest = open_dataset(job.data, tokenizer)
        if job.verify:
            verify(folder, manifest)
            log.info("%s: every file is as it was written", folder.resolve())
        if job.inspect:
            log.info(describe_dataset(folder, manifest, load_tokenizer(job.tokenizer, folder)))
        return folder
    manifest = data.prepare(job.data, job.prepare, tokenizer)
    for name, split in manifest.splits.items():
        log.info(
            "%-5s %13s tokens  %9s documents  %14s bytes",
            name,
            f"{split.tokens:,}",
            f"{split.documents:,}",
            f"{split.bytes:,}",
        )
    for reason, count in manifest.skipped.items():
        log.info("left out: %d documents (%s)", count, reason)
    folder = dataset_folder(job.data, tokenizer).resolve()
    log.info("written to %s", folder)
    return folder
