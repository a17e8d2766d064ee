"""Score a checkpoint: python eval.py checkpoint=runs/...|gpt2|DIR [eval.text_file=book.txt] [eval.stride=128]"""

import json
import logging
import time
from pathlib import Path

from gpt2lab.compose import run_job
from gpt2lab.config import EvalJob, UserError
from gpt2lab.evaluation import perplexity
from gpt2lab.evaluation.texts import text_from_file, text_from_validation_split
from gpt2lab.runtime import open_runtime
from gpt2lab.weights import open_model

log = logging.getLogger(__name__)


def evaluate(job: EvalJob) -> None:
    """Print the figures and write them, with the protocol, to ``eval.json``."""
    runtime = open_runtime(job.runtime)
    checkpoint = open_model(job.checkpoint, runtime.device)
    source, tokenizer = checkpoint.source, checkpoint.tokenizer
    log.info(source.describe())
    if job.eval.text_file:
        text = text_from_file(Path(job.eval.text_file), tokenizer)
    elif source.trained_on:
        text = text_from_validation_split(source.trained_on.data, tokenizer, source.trained_on.fingerprint)
    else:
        raise UserError(f"{source.describe()} has no validation split: name a text to score, eval.text_file=FILE")

    context = source.context  # positions beyond it were never trained
    started = time.perf_counter()
    result = perplexity(
        checkpoint.model,
        text.tokens,
        token_lengths=tokenizer.token_lengths(),
        runtime=runtime,
        context=context,
        stride=job.eval.stride,
        batch_size=job.eval.batch_size,
        words=text.words,
    )
    seconds = time.perf_counter() - started
    protocol = {
        **text.description,
        "tokenizer": tokenizer.name,
        "context": context,
        "stride": job.eval.stride or context,
        "prefix": "end-of-text",
        "precision": runtime.precision,
    }
    figures = result.figures()
    for name, value in {**protocol, **figures}.items():
        log.info("%-18s %s", name, f"{value:,.4f}" if isinstance(value, float) else value)
    out = Path(job.out) if job.out else source.results / "eval.json"
    origin = {**source.origin, "parameters": checkpoint.model.num_parameters()}
    speed = {"wall_seconds": seconds, "tokens_per_second": result.tokens / seconds}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**origin, **figures, "protocol": protocol, **speed}, indent=2) + "\n")
    log.info("written to %s", out)


if __name__ == "__main__":
    run_job("eval", evaluate)
