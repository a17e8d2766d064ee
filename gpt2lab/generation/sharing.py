"""Generation by several processes: prompts -> groups, each drawn by one process -> all ids in every process."""

from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

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
    firsts = range(0, len(prompts), group_size)[world.rank :: world.size]
    groups = {first: prompts[first : first + group_size] for first in firsts}
    with _progress_bar(sum(map(len, groups.values())) * sampling.max_new_tokens, world) as bar:
        for first, group in groups.items():
            rows = generate(
                model, group, sampling, eot_id=eot_id, runtime=runtime, first_row=first, on_token=bar.update
            )
            drawn |= enumerate(rows, first)
            bar.update(sum(sampling.max_new_tokens - len(row) for row in rows))  # of rows that have ended early
    lengths_P = torch.tensor([len(drawn.get(number, ())) for number in range(len(prompts))], dtype=torch.int64)
    lengths = world.sum(lengths_P).tolist()  # a row is drawn by one process, and 0 in all others
    ids_PT = torch.zeros(len(prompts), max(lengths, default=0), dtype=torch.int64)
    for number, row in drawn.items():
        ids_PT[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return [ids_T[:length].tolist() for ids_T, length in zip(world.sum(ids_PT), lengths, strict=True)]


def _progress_bar(total: int, world: World) -> "tqdm[Any]":
    """On a terminal; the main process shows its own share, at most ``total`` tokens, for all."""
    hidden = None if world.is_main else True  # None: shown on a terminal only
    return tqdm(total=total, desc="sampling, at most", unit="token", leave=False, disable=hidden)
