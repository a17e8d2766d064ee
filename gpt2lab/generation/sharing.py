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
    drawn: dict[int, list[int]] = {}
    firsts = range(0, len(prompts), group_size)
    for first in firsts[world.rank :: world.size]:
        group = prompts[first : first + group_size]
        drawn |= enumerate(generate(model, group, sampling, eot_id=eot_id, runtime=runtime, first_row=first), first)
    lengths_P = torch.tensor([len(drawn.get(number, ())) for number in range(len(prompts))], dtype=torch.int64)
    lengths = world.sum(lengths_P).tolist()  # a row is drawn by one process, and 0 in all others
    ids_PT = torch.zeros(len(prompts), max(lengths, default=0), dtype=torch.int64)
    for number, row in drawn.items():
        ids_PT[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return [ids_T[:length].tolist() for ids_T, length in zip(world.sum(ids_PT), lengths, strict=True)]
