"""Write a model for transformers: python export.py checkpoint=runs/... out=DIR"""

import logging
from pathlib import Path

import torch

from gpt2lab.compose import run_job
from gpt2lab.config import ExportJob, UserError
from gpt2lab.weights import check_free, open_model, save_pretrained

log = logging.getLogger(__name__)


def export(job: ExportJob) -> None:
    """Write the folder ``out``."""
    if not job.out:
        raise UserError("out=null: expected the folder to write: type out=DIR")
    out = Path(job.out)
    check_free(out)
    checkpoint = open_model(job.checkpoint, torch.device("cpu"))
    log.info(checkpoint.source.describe())
    architecture = save_pretrained(checkpoint.model, checkpoint.tokenizer, out)
    log.info("written to %s: %s.from_pretrained(%r) opens it", out, architecture, str(out))


if __name__ == "__main__":
    run_job("export", export)
