"""Generate text: job -> continuations on the terminal."""

import codecs
import logging
from collections.abc import Iterable, Sequence
from functools import partial

from gpt2lab.config import SampleJob
from gpt2lab.generation import generate, generate_stream
from gpt2lab.runtime import open_runtime
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.weights import open_model

log = logging.getLogger(__name__)


def sample(job: SampleJob, *, command: Sequence[str] | None = None) -> None:
    """Print ``sampling.num_samples`` continuations."""
    runtime = open_runtime(job.runtime)
    checkpoint = open_model(job.checkpoint, runtime.device)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    log.info(checkpoint.source.describe())
    prompt = tokenizer.encode(job.prompt) or [tokenizer.eot_id]
    block_size = model.config.block_size
    if len(prompt) > block_size:
        log.warning(
            "the prompt has %d tokens, the context %d: only its last %d are read", len(prompt), block_size, block_size
        )

    draw = partial(generate_stream, model, [prompt], job.sampling, eot_id=tokenizer.eot_id, runtime=runtime)
    numbers = range(job.sampling.num_samples)
    samples: Iterable[Iterable[int]]
    if job.stream:
        samples = ((token for _, token in draw(first_row=number)) for number in numbers)
    else:
        prompts = [prompt for _ in numbers]
        samples = generate(model, prompts, job.sampling, eot_id=tokenizer.eot_id, runtime=runtime)
    for number, ids in enumerate(samples, start=1):
        print(f"--- sample {number} of {len(numbers)}")
        print(job.prompt, end="", flush=True)
        n_tokens = print_text(tokenizer, ids)
        ending = "end of text" if n_tokens < job.sampling.max_new_tokens else "limit reached"
        print(f"--- {n_tokens} tokens, {ending}")


def print_text(tokenizer: Tokenizer, ids: Iterable[int]) -> int:
    """Print the text of ``ids`` as they come, a character when its last byte is there; return how many ids came."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    n_tokens = 0
    for token in ids:
        print(decoder.decode(tokenizer.decode_bytes([token])), end="", flush=True)
        n_tokens += 1
    print(decoder.decode(b"", final=True))
    return n_tokens
