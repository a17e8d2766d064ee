"""Validation during training."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gpt2lab.data import Batch, ValidationBatches
from gpt2lab.distributed import World
from gpt2lab.evaluation.scoring import Perplexity, score_batches
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime, explaining_out_of_memory, smaller_batch


@dataclass
class Validator:
    """Scores the model on fixed windows of the validation split."""

    windows: ValidationBatches
    token_lengths: np.ndarray[Any, np.dtype[np.int64]]
    batch_size: int
    runtime: Runtime
    world: World

    def __call__(self, model: GPT, before_batch: Callable[[], None] = lambda: None) -> Perplexity:
        """The perplexity of all windows, without dropout; processes share the batches.

        Args:
            model: its training mode is restored afterwards.
            before_batch: called before each batch, equally often in all processes.
        """
        what = f"validation of {self.batch_size} sequences at once"
        with explaining_out_of_memory(what, smaller_batch("training.micro_batch_size", self.batch_size)):
            part = score_batches(model, self._own_batches(before_batch), self.token_lengths, self.runtime)
        nll, tokens, n_bytes = self.world.sum(torch.tensor([part.nll, part.tokens, part.bytes], dtype=torch.float64))
        return Perplexity(nll.item(), int(tokens), int(n_bytes))

    def _own_batches(self, before_batch: Callable[[], None]) -> Iterator[Batch]:
        for first in range(0, len(self.windows), self.batch_size * self.world.size):
            before_batch()
            own = first + self.batch_size * self.world.rank
            if own < len(self.windows):
                yield self.windows.batch(own, min(own + self.batch_size, len(self.windows)))
