"""Generation by several processes: prompts -> groups, each drawn by one process -> all ids in every process."""

from collections.abc import Sequence

import torch

from gpt2lab.config import SamplingConfig
from gpt2lab.distributed import World
from gpt2lab.generation.decoding import generate
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime


def generate_shared(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingConfig,
    *,
    eot_id: int,
    runtime: Runtime,
    world: World,
    group_size: int,
) -> list[list[int]]:
    """Continue each prompt, as ``generate`` does; every process gets the new ids of all rows.

    ``group_size`` consecutive prompts are decoded by one process, the next ones by the next process. The rounding of
    a row depends on its group alone: the ids are equal to the last bit on any number of processes.

    Raises:
        UserError: as ``generate``, in the process that draws the row.
    """
    shifted_PT = torch.zeros(len(prompts), sampling.max_new_tokens, dtype=torch.int64)  # id + 1; 0: no token
    firsts = range(0, len(prompts), group_size)
    for first in firsts[world.rank :: world.size]:
        group = prompts[first : first + group_size]
        rows = generate(model, group, sampling, eot_id=eot_id, runtime=runtime, first_row=first)
        for number, row in enumerate(rows, start=first):
            shifted_PT[number, : len(row)] = torch.tensor(row, dtype=torch.int64) + 1
    world.sum(shifted_PT)  # in place; a row is 0 in all processes but one
    return [(shifted_T[shifted_T > 0] - 1).tolist() for shifted_T in shifted_PT]
