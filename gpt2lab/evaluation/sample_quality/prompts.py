"""Validation documents -> prompts, and what their authors wrote next."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import SampleQualityConfig, UserError
from gpt2lab.runtime import stream_seed


class Prompts(NamedTuple):
    """Token ids, a list each."""

    prompts: list[list[int]]
    human: list[list[int]]
    """what follows each: ``new_tokens``, or fewer where the document ends"""
    documents: list[int]
    """number of the document that each is from"""


def choose_prompts(documents: Sequence[NDArray[np.integer]], config: SampleQualityConfig) -> Prompts:
    """``num_prompts`` stretches, drawn by ``config.seed`` from the documents cut into stretches of equal length.

    No stretch overlaps another, or crosses from one document into the next; each has at least one token to follow.

    Raises:
        UserError: there are fewer.
    """
    length = config.prompt_tokens + config.new_tokens
    stretches = [
        (number, document[first : first + length])
        for number, document in enumerate(documents)
        for first in range(0, len(document), length)
    ]
    usable = [(number, stretch) for number, stretch in stretches if len(stretch) > config.prompt_tokens]
    if len(usable) < config.num_prompts:
        raise UserError(
            f"eval.sample_quality.num_prompts={config.num_prompts}: the text has room for {len(usable)} prompts of "
            f"{config.prompt_tokens} tokens with up to {config.new_tokens} to follow; ask for fewer or shorter, or "
            "name a longer text, eval.text_file=FILE"
        )
    rng = np.random.default_rng(stream_seed("prompts", config.seed))
    chosen = [usable[i] for i in np.sort(rng.choice(len(usable), config.num_prompts, replace=False))]
    ids_of = [stretch.tolist() for _, stretch in chosen]
    return Prompts(
        [ids[: config.prompt_tokens] for ids in ids_of],
        [ids[config.prompt_tokens :] for ids in ids_of],
        [number for number, _ in chosen],
    )
