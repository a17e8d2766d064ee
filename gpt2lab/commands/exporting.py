"""Export a model: job -> a directory that ``transformers``, onnxruntime or llama.cpp loads."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from gpt2lab.config import ExportJob, UserError, check_kind, choose
from gpt2lab.evaluation.model_card import model_card
from gpt2lab.weights import EXPORT_FORMATS, check_free, open_model

log = logging.getLogger(__name__)


def export(job: ExportJob, *, command: Sequence[str] | None = None) -> Path:
    """Write the folder ``out``; return it.

    Raises:
        UserError: there is no such model or format, the format lacks one of the model's settings, or ``out`` exists.
    """
    check_kind(job, ExportJob, "job", 'compose_config("export", [...])')
    if not job.out:
        raise UserError("out=null: expected the folder to write: type out=exports/NAME")
    export_format, out = choose(EXPORT_FORMATS, job.format, "format"), Path(job.out)
    check_free(out)
    checkpoint = open_model(job.checkpoint, torch.device("cpu"))
    log.info(checkpoint.source.describe())
    card = model_card(checkpoint.source, out.resolve().name, checkpoint.model.num_parameters(), export_format.library)
    opened_by = export_format.save(checkpoint.model, checkpoint.tokenizer, out, card, checkpoint.source.trained_with())
    log.info("written to %s: %s opens it", out, opened_by)
    return out
