"""Evaluate a model: job -> table on the terminal, ``eval.json``, pictures."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from gpt2lab.config import EvalJob, to_dict
from gpt2lab.evaluation.loaded_model import Subject
from gpt2lab.evaluation.parts import run_parts
from gpt2lab.evaluation.table import as_record, as_table
from gpt2lab.files import file_sha256
from gpt2lab.report.evaluation_plots import PLOTS
from gpt2lab.runs import Hardware, environment
from gpt2lab.runs.layout import EVALUATION
from gpt2lab.runtime import open_runtime
from gpt2lab.weights import open_model

log = logging.getLogger(__name__)


def evaluate(job: EvalJob, *, command: Sequence[str] | None = None) -> Path:
    """Print one table of all parts; write the figures, and all that is needed to repeat them, to ``eval.json``."""
    runtime = open_runtime(job.runtime)
    checkpoint = open_model(job.checkpoint, runtime.device)
    subject = Subject(checkpoint.model, checkpoint.tokenizer, checkpoint.source, runtime)
    source = subject.source
    log.info(source.describe())

    sections = run_parts(subject, job.eval)
    for section in sections.values():
        for name, value in section.figures.get("protocol", {}).items():
            log.info("%-16s %s", name, value)
    log.info("\n%s\n", as_table(sections))

    origin = {
        **source.origin,
        "weights_sha256": {file.name: file_sha256(file) for file in source.files},
        "parameters": subject.model.num_parameters(),
    }
    record = {
        **as_record(origin, sections),
        "settings": to_dict(job),
        "environment": environment(command, Hardware(runtime.device_name, runtime.cpu_threads)),
    }
    out = Path(job.out) if job.out else source.results / EVALUATION
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2) + "\n")
    for name, text in ((name, text) for section in sections.values() for name, text in section.texts.items()):
        (out.parent / name).write_text(text, encoding="utf-8")
    for draw, section in ((PLOTS[name], section) for name, section in sections.items() if name in PLOTS):
        draw(section.figures, out.parent)
    log.info("written to %s", out)
    return out
