"""Generate text: job -> continuations on standard output, and as a list.

Standard output holds the text alone (or JSON lines), so that it can be piped; notices go to the log.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from gpt2lab.config import SampleJob, UserError, choose
from gpt2lab.generation import generate, generate_stream
from gpt2lab.generation.text import Continuation
from gpt2lab.runtime import Runtime, open_runtime
from gpt2lab.tokenizers.base import replace_surrogates
from gpt2lab.weights import LoadedModel, open_model

STDIN = "-"
LONGEST_PROMPT_BYTES = 2**26
ENDINGS = {"end_of_text": "end of text", "stop": "stop string", "length": "limit reached"}

log = logging.getLogger(__name__)


def sample(job: SampleJob, *, command: Sequence[str] | None = None) -> list[Continuation]:
    """Print ``sampling.num_samples`` continuations of the prompt, and return them.

    Raises:
        UserError: there is no such model or prompt file.
    """
    show = choose(OUTPUT_FORMATS, job.format, "format")
    prompt = read_prompt(job)
    runtime = open_runtime(job.runtime)
    loaded = open_model(job.checkpoint, runtime.device)
    log.info(loaded.source.describe())
    continuations = []
    try:
        for number, continuation in enumerate(draw(job, prompt, loaded, runtime), start=1):
            log.info("--- sample %d of %d", number, job.sampling.num_samples)
            show(number, prompt, continuation)
            log.info("--- %d tokens, %s", continuation.tokens, ENDINGS[str(continuation.finish_reason)])
            continuations.append(continuation)
    except BrokenPipeError:  # the reader has what it wants, as in python sample.py ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return continuations


def read_prompt(job: SampleJob) -> str:
    """Return the text to continue: ``prompt``, or what standard input or ``prompt_file`` holds.

    Of these two, the line break at the end is no part of the prompt.
    """
    if job.prompt == STDIN:
        key, content = f"prompt={STDIN}", sys.stdin.buffer.read(LONGEST_PROMPT_BYTES + 1)
    elif job.prompt_file is not None:
        with Path(job.prompt_file).open("rb") as file:  # it may be a pipe, or /dev/zero
            key, content = f"prompt_file={job.prompt_file}", file.read(LONGEST_PROMPT_BYTES + 1)
    else:
        return replace_surrogates(job.prompt)
    if len(content) > LONGEST_PROMPT_BYTES:
        raise UserError(f"{key}: more than {LONGEST_PROMPT_BYTES // 2**20} MiB; expected a text to continue")
    try:
        return content.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{key}: expected UTF-8, byte {error.start} is not") from None


def draw(job: SampleJob, prompt: str, loaded: LoadedModel, runtime: Runtime) -> Iterator[Continuation]:
    """Yield the continuations: one after another, each drawn while it is read, or all drawn together."""
    model, tokenizer, sampling = loaded.model, loaded.tokenizer, job.sampling
    ids, block_size = tokenizer.encode_prompt(prompt), model.config.block_size
    if len(ids) > block_size:
        log.warning(
            "the prompt has %d tokens, the context %d: only its last %d are read", len(ids), block_size, block_size
        )
    rows: Iterable[Iterable[int]]
    if job.stream:
        streams = (
            generate_stream(model, [ids], sampling, eot_id=tokenizer.eot_id, runtime=runtime, first_row=row)
            for row in range(sampling.num_samples)
        )
        rows = ((token for _, token in stream) for stream in streams)
    else:
        prompts = [ids] * sampling.num_samples
        rows = generate(model, prompts, sampling, eot_id=tokenizer.eot_id, runtime=runtime)
    for row in rows:
        yield Continuation(row, tokenizer, sampling.max_new_tokens, job.stop)


def printable(text: str) -> str:
    """``text`` for standard output: on a terminal, control characters are shown as escapes instead of obeyed."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def show_text(number: int, prompt: str, continuation: Continuation) -> None:
    """Print the prompt and its continuation, while it is drawn."""
    print(printable(prompt), end="", flush=True)
    for part in continuation:
        print(printable(part), end="", flush=True)
    print(flush=True)


def show_json(number: int, prompt: str, continuation: Continuation) -> None:
    """Print one line of JSON."""
    continuation.finish()
    values = {
        "sample": number,
        "prompt": prompt,
        "text": continuation.text,
        "tokens": continuation.tokens,
        "finish_reason": continuation.finish_reason,
    }
    print(json.dumps(values, ensure_ascii=False), flush=True)


OUTPUT_FORMATS: dict[str, Callable[[int, str, Continuation], None]] = {"text": show_text, "jsonl": show_json}
