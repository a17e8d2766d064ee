"""The model that judges samples: prompts and continuations -> nats of each token, hidden state after the last one.

Legend: B = rows of a batch, T = tokens, S = texts, C = n_embd.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2lab.config import UserError
from gpt2lab.distributed import ALONE, World
from gpt2lab.evaluation.scoring import own_share, score_tokens
from gpt2lab.evaluation.scoring_batches import hidden_states, last_token_batches
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.evaluation.windows import Window
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime
from gpt2lab.weights import open_model

Text = Sequence[int]


@dataclass(frozen=True)
class Scorer:
    """A model that reads prompts and continuations."""

    name: str
    """what the metrics say of it"""
    model: GPT
    context: int
    """tokens at once that it was trained on"""
    runtime: Runtime
    batch_size: int
    """rows per forward pass; no score depends on it"""
    world: World = ALONE
    """the processes that share the batches; each gets all scores"""

    def require_room(self, n_tokens: int) -> None:
        """Raise ``UserError`` for texts whose prompt and continuation together are longer than its context."""
        if n_tokens > self.context:
            raise UserError(
                f"eval.sample_quality.prompt_tokens + new_tokens = {n_tokens}: the scorer, {self.name}, was trained on "
                f"{self.context} tokens at once; lower one of them"
            )

    def token_nll(self, prompts: Sequence[Text], texts: Sequence[Text]) -> list[NDArray[np.float32]]:
        """Nats of each token of each text, after its prompt and what stands before the token."""
        rows = [[*prompt, *text] for prompt, text in zip(prompts, texts, strict=True)]
        firsts = np.cumsum([0, *map(len, rows)])[:-1].tolist()
        windows = [
            Window(first, first + len(row), first + len(prompt))
            for first, row, prompt in zip(firsts, rows, prompts, strict=True)
            if len(row) > len(prompt)
        ]
        nll_n = score_tokens(self.model, np.concatenate(rows), windows, self.runtime, self.batch_size, world=self.world)
        return [
            nll_n[first + len(prompt) : first + len(row)]
            for first, row, prompt in zip(firsts, rows, prompts, strict=True)
        ]

    def last_states(self, prompts: Sequence[Text], texts: Sequence[Text]) -> NDArray[np.float32]:
        """The normalized residual stream at the last token of each prompt and text, [S, C]."""
        rows = [[*prompt, *text] for prompt, text in zip(prompts, texts, strict=True)]
        states_SC = np.zeros((len(rows), self.model.config.n_embd), np.float32)
        batches = own_share(last_token_batches(rows, self.batch_size), self.world)
        for where_B, hidden_BC, _ in hidden_states(self.model, batches, self.runtime):
            states_SC[where_B] = hidden_BC.float().cpu().numpy()
        self.world.sum(torch.from_numpy(states_SC))  # in place; a row is 0 in all processes but one
        return states_SC


def open_scorer(where: str | None, loaded: TextModel, batch_size: int) -> Scorer:
    """The model that ``eval.sample_quality.scorer=where`` names; None: the one whose samples are judged.

    Where ``runtime.precision=auto`` chose the judged model's precision, a scorer of its own reads in float32, so that
    its scores of a run's samples and of a pretrained model's are taken alike.

    Raises:
        UserError: there is none, or its tokenizer is not the loaded's.
    """
    if where is None:
        name = f"the model itself, {loaded.source.describe()}"
        return Scorer(name, loaded.model, loaded.source.context, loaded.runtime, batch_size, loaded.world)
    opened = open_model(where, loaded.runtime.device)
    if opened.tokenizer.fingerprint != loaded.tokenizer.fingerprint:
        raise UserError(
            f"eval.sample_quality.scorer={where} reads tokenizer={opened.tokenizer.name}, the samples are of "
            f"tokenizer={loaded.tokenizer.name}: name a scorer with the same tokenizer"
        )
    runtime = replace(loaded.runtime, precision="fp32") if loaded.auto_precision else loaded.runtime
    return Scorer(opened.source.describe(), opened.model, opened.source.context, runtime, batch_size, loaded.world)
