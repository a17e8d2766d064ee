"""Generate text: job -> continuations on standard output, and as a list.

Standard output holds the text alone (or JSON lines), so that it can be piped; notices go to the log. Several processes
share the samples; the main process reads the prompts and prints.
"""

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from gpt2lab.config import SampleJob, UserError, check_kind, choose
from gpt2lab.config.escapes import unescape
from gpt2lab.distributed import World, close_world, open_world
from gpt2lab.generation import generate_shared, generate_stream
from gpt2lab.generation.text import Continuation
from gpt2lab.runtime import Runtime, explaining_out_of_memory, open_runtime, smaller_batch
from gpt2lab.tokenizers.base import replace_surrogates
from gpt2lab.weights import LoadedModel, open_model

STDIN = "-"
LONGEST_PROMPT_BYTES = 2**26
ENDINGS = {"end_of_text": "end of text", "stop": "stop string", "length": "limit reached"}

log = logging.getLogger(__name__)


def sample(job: SampleJob, *, command: Sequence[str] | None = None) -> list[Continuation]:
    """Print ``sampling.num_samples`` continuations of each prompt, and return them.

    Raises:
        UserError: there is no such model or prompt file, or several processes are to print while they draw.
    """
    check_kind(job, SampleJob, "job", 'compose_config("sample", [...])')
    show = choose(OUTPUT_FORMATS, job.format, "format")
    world = open_world()
    if world.size > 1 and job.stream:
        raise UserError(
            f"stream=true: {world.size} processes draw all samples together and print them at the end; expected "
            "stream=false; try stream=false"
        )
    prompts = [prompt for prompt in world.on_main(lambda: read_prompts(job)) for _ in range(job.sampling.num_samples)]
    runtime = open_runtime(job.runtime, world.local_rank, world.local_size)
    loaded = open_model(job.checkpoint, runtime.device)
    log.info(loaded.source.describe())
    drawn = draw_continuations(job, prompts, loaded, runtime, world)
    rows = 1 if job.stream else min(job.sampling.batch_size, math.ceil(len(prompts) / world.size))
    with explaining_out_of_memory(f"decoding {rows} samples at once", smaller_batch("sampling.batch_size", rows)):
        continuations = _print(prompts, drawn, show) if world.is_main else [one.finish() for one in drawn]
    close_world()
    return continuations


def _print(
    prompts: Sequence[str], drawn: Iterable[Continuation], show: Callable[[int, str, Continuation], None]
) -> list[Continuation]:
    """Show each continuation, as long as somebody reads; return them."""
    continuations = []
    try:
        for number, (prompt, continuation) in enumerate(zip(prompts, drawn, strict=True), start=1):
            log.info("--- sample %d of %d", number, len(prompts))
            show(number, prompt, continuation)
            log.info("--- %d tokens, %s", continuation.tokens, ENDINGS[str(continuation.finish_reason)])
            continuations.append(continuation)
    except BrokenPipeError:  # the reader has what it wants, as in python sample.py ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return continuations


def read_prompts(job: SampleJob) -> list[str]:
    """Return the texts to continue: ``prompt``, the text of standard input or ``prompt_file``, or ``prompts_file``'s.

    The line break at the end of a file is not part of the prompt.

    Raises:
        UserError: there is no prompt in ``prompts_file``, or it or a prompt is malformed.
    """
    if job.prompts_file is not None:
        lines = _read(job.prompts_file, "prompts_file").split("\n")
        of_line = _json_prompt if job.prompts_file.endswith(".jsonl") else _text_prompt
        where = f"prompts_file={job.prompts_file}"
        prompts = [of_line(line, f"{where}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
        if not prompts:
            raise UserError(f"{where}: no prompt; expected one on each line")
        return prompts
    if job.prompt == STDIN:
        return [_without_last_break(_read(STDIN, "prompt"))]
    if job.prompt_file is not None:
        return [_without_last_break(_read(job.prompt_file, "prompt_file"))]
    return [replace_surrogates(job.prompt)]


def _read(path: str, key: str) -> str:
    """The text of a file, or of standard input, without the byte order mark that Windows puts first."""
    if path == STDIN:
        content = sys.stdin.buffer.read(LONGEST_PROMPT_BYTES + 1)
    else:
        with Path(path).open("rb") as file:  # it may be a pipe, or /dev/zero
            content = file.read(LONGEST_PROMPT_BYTES + 1)
    if len(content) > LONGEST_PROMPT_BYTES:
        raise UserError(f"{key}={path}: more than {LONGEST_PROMPT_BYTES // 2**20} MiB; expected a text to continue")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{key}={path}: expected UTF-8, byte {error.start} is not") from None


def _without_last_break(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def _text_prompt(line: str, where: str) -> str:
    """A line is a prompt."""
    return line.removesuffix("\r")


def _json_prompt(line: str, where: str) -> str:
    """The field ``prompt`` of an object."""
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError):
        prompt = None
    if not isinstance(prompt, str):
        raise UserError(f'{where}: expected {{"prompt": "text"}}')
    return replace_surrogates(prompt)


def draw_continuations(
    job: SampleJob, prompts: Sequence[str], loaded: LoadedModel, runtime: Runtime, world: World
) -> Iterator[Continuation]:
    """Yield a continuation of each prompt: one after another, each drawn while it is read, or all drawn together."""
    model, tokenizer, sampling = loaded.model, loaded.tokenizer, job.sampling
    ids, block_size = [tokenizer.encode_prompt(prompt) for prompt in prompts], model.config.block_size
    longest = max(map(len, ids))
    if longest > block_size:
        log.warning(
            "the prompt has %d tokens, the context %d: only its last %d are read", longest, block_size, block_size
        )
    _warn_of_untrained_positions(loaded, min(longest + sampling.max_new_tokens - 1, block_size))
    rows: Iterable[Iterable[int]]
    if job.stream:
        streams = (
            generate_stream(model, [prompt], sampling, eot_id=tokenizer.eot_id, runtime=runtime, first_row=row)
            for row, prompt in enumerate(ids)
        )
        rows = ((token for _, token in stream) for stream in streams)
    else:
        rows = generate_shared(
            model, ids, sampling, eot_id=tokenizer.eot_id, runtime=runtime, world=world,
            group_size=math.ceil(len(ids) / world.size),
        )  # fmt: skip
    stop = [unescape(text) for text in job.stop]
    for row in rows:
        yield Continuation(row, tokenizer, sampling.max_new_tokens, stop)


def _warn_of_untrained_positions(loaded: LoadedModel, n_read: int) -> None:
    """Warn where a model with learned positions reads more tokens at once than it was trained on."""
    trained = loaded.source.context
    if loaded.model.config.positions.name == "learned" and n_read > trained:
        log.warning(
            "prompt and samples have up to %d tokens, training.sequence_length=%d: later learned positions are "
            "untrained; lower sampling.max_new_tokens or shorten the prompt, together by %d",
            n_read, trained, n_read - trained,
        )  # fmt: skip


def printable(text: str) -> str:
    """``text`` for standard output: on a terminal, control characters are shown as escapes instead of obeyed."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def show_text(number: int, prompt: str, continuation: Continuation) -> None:
    """Print the prompt and its continuation, while it is drawn."""
    print(printable(prompt), end="", flush=True)
    try:
        for part in continuation:
            print(printable(part), end="", flush=True)
    finally:  # an error line, as after Ctrl-C, begins on a line of its own
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
    ascii_only = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")  # JSON has no \xe9, which print writes
    print(json.dumps(values, ensure_ascii=ascii_only), flush=True)


OUTPUT_FORMATS: dict[str, Callable[[int, str, Continuation], None]] = {"text": show_text, "jsonl": show_json}
