"""Explain a model: job -> one forward pass as a web page, and as PNG."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2lab.config import ExplainJob, check_kind
from gpt2lab.explain.explanation import Explanation, explain_prompt
from gpt2lab.explain.page import explanation_html
from gpt2lab.explain.plots import write_explanation_plots
from gpt2lab.files import check_file_writable, write_text
from gpt2lab.runtime import open_runtime
from gpt2lab.weights import open_model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExplainResult:
    """What was computed and written."""

    explanation: Explanation
    page: Path
    plots: list[Path]


def explain(job: ExplainJob, *, command: Sequence[str] | None = None) -> ExplainResult:
    """Run the model once on the prompt and write the page.

    Raises:
        UserError: there is no such model, its logits are NaN or infinite, or the page cannot be written.
    """
    check_kind(job, ExplainJob, "job", 'compose_config("explain", [...])')
    page = Path(job.out)
    check_file_writable(page, "out", "explain.html")
    runtime = open_runtime(job.runtime)
    loaded = open_model(job.checkpoint, runtime.device)
    log.info(loaded.source.describe())
    explanation = explain_prompt(
        loaded.model,
        loaded.tokenizer,
        job.prompt,
        job.sampling,
        steps=job.steps,
        max_tokens=job.max_tokens,
        seed=job.seed,
    )
    n_read = len(explanation.trace.ids_T)
    if explanation.n_left_out:
        log.warning(
            "the prompt has %d tokens: only its last %d are read (max_tokens=%d, context %d)",
            n_read + explanation.n_left_out, n_read, job.max_tokens, loaded.model.config.block_size,
        )  # fmt: skip
    write_text(page, explanation_html(explanation, loaded.source.describe()))
    plots = write_explanation_plots(explanation, page) if job.plots else []
    log.info("written to %s", ", ".join(map(str, [page, *plots])))
    return ExplainResult(explanation, page, plots)
