"""Turn text into token shards: python prepare.py data=text_files data.files=[book.txt] data.name=book"""

import logging

from gpt2lab.compose import run_job
from gpt2lab.config import PrepareJob
from gpt2lab.data import dataset_folder, describe_dataset, open_dataset, prepare, verify
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.tokenizers.registry import open_tokenizer

log = logging.getLogger(__name__)


def main(job: PrepareJob) -> None:
    """Prepare the dataset, or check or describe an existing one."""
    tokenizer = open_tokenizer(job.tokenizer)
    if job.verify or job.inspect:
        folder, manifest = open_dataset(job.data, tokenizer)
        if job.verify:
            verify(folder, manifest)
            log.info("%s: every file is as it was written", folder.resolve())
        if job.inspect:
            log.info(describe_dataset(folder, manifest, load_tokenizer(job.tokenizer, folder)))
        return
    manifest = prepare(job.data, job.prepare, tokenizer)
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
    log.info("written to %s", dataset_folder(job.data, tokenizer).resolve())


if __name__ == "__main__":
    run_job("prepare", main)
