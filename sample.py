"""Continue a prompt: python sample.py checkpoint=runs/... prompt="def " sampling.temperature=0.8"""

import logging

from gpt2lab.compose import run_job
from gpt2lab.config import SampleJob
from gpt2lab.generation import generate
from gpt2lab.runtime import open_runtime
from gpt2lab.weights import open_model

log = logging.getLogger(__name__)


def sample(job: SampleJob) -> None:
    """Print ``sampling.num_samples`` continuations."""
    runtime = open_runtime(job.runtime)
    checkpoint = open_model(job.checkpoint, runtime.device)
    tokenizer = checkpoint.tokenizer
    log.info(checkpoint.source.describe())
    prompt = tokenizer.encode(job.prompt) or [tokenizer.eot_id]
    block_size = checkpoint.model.config.block_size
    if len(prompt) > block_size:
        log.warning(
            "the prompt has %d tokens, the context %d: only its last %d are read", len(prompt), block_size, block_size
        )

    prompts = [prompt] * job.sampling.num_samples
    samples = generate(checkpoint.model, prompts, job.sampling, eot_id=tokenizer.eot_id, runtime=runtime)
    for number, ids in enumerate(samples, start=1):
        ending = "end of text" if len(ids) < job.sampling.max_new_tokens else "limit reached"
        print(f"--- sample {number} of {len(samples)}: {len(ids)} tokens, {ending}")
        print(job.prompt + tokenizer.decode(ids))


if __name__ == "__main__":
    run_job("sample", sample)
