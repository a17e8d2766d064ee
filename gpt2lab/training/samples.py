"""Text drawn from the model while it trains: on the screen, in ``samples.jsonl``, and for the loggers."""

import json
import logging
from dataclasses import dataclass

from gpt2lab.config import SamplesConfig
from gpt2lab.generation import generate
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime
from gpt2lab.tokenizers import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampler:
    """Continues the same prompts each time, with the same random numbers, so that only the model differs."""

    config: SamplesConfig
    tokenizer: Tokenizer
    runtime: Runtime

    def __call__(self, model: GPT) -> list[dict[str, str]]:
        """One ``{"prompt", "text"}`` a sample, shown on the screen too; training is left as it was."""
        prompts = [prompt for prompt in self.config.prompts for _ in range(self.config.sampling.num_samples)]
        eot_id = self.tokenizer.eot_id
        ids = [self.tokenizer.encode(prompt) or [eot_id] for prompt in prompts]
        drawn = generate(model, ids, self.config.sampling, eot_id=eot_id, runtime=self.runtime)
        samples = [
            {"prompt": prompt, "text": self.tokenizer.decode(new)} for prompt, new in zip(prompts, drawn, strict=True)
        ]
        for sample in samples:
            log.info("sample: %s", json.dumps(sample["prompt"] + sample["text"], ensure_ascii=False))
        return samples
