"""Export a model: job -> a directory that ``transformers`` loads."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from gpt2lab.config import ExportJob, UserError
from gpt2lab.evaluation.model_card import model_card
from gpt2lab.weights import check_free, open_model, save_pretrained

log = logging.getLogger(__name__)


def export(job: ExportJob, *, command: Sequence[str] | None = None) -> Path:
    """Write the folder ``out``; return it.

    Raises:
        UserError: there is no such model, no architecture of ``transformers`` has all its settings, or ``out`` exists.
    """
    if not job.out:
        raise UserError("out=null: expected the folder to write: type out=exports/NAME")
    out = Path(job.out)
    check_free(out)
    checkpoint = open_model(job.checkpoint, torch.device("cpu"))
    log.info(checkpoint.source.describe())
    card = model_card(checkpoint.source, out.name, checkpoint.model.num_parameters())
    architecture = save_pretrained(checkpoint.model, checkpoint.tokenizer, out, card)
    log.info("written to %s: %s.from_pretrained(%r) opens it", out, architecture, str(out))
    return out
