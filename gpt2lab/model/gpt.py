"""GPT-2, assembled from the variants that the configuration names.

    tokens -> wte (+ positions) -> n_layer x [x + attn(norm_1(x)); x + mlp(norm_2(x))] -> norm_f -> head -> logits

Legend: B = batch, T = tokens, S = keys seen (cached and new), C = n_embd, H = heads, V = vocab_size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2lab.config import ModelConfig, UserError, choose
from gpt2lab.model.attention import Attention, AttentionContext, LayerCache
from gpt2lab.model.init import init_weights
from gpt2lab.model.loss import nll_sum, token_nll
from gpt2lab.model.mlp import MLPS
from gpt2lab.model.norms import NORMS
from gpt2lab.model.positions import POSITIONS

IGNORE_INDEX = -100


class Cache(Protocol):
    """Keys and values of the tokens a model has already read."""

    @property
    def length(self) -> int:
        """Tokens stored."""
        ...

    @property
    def layers(self) -> Sequence[LayerCache]:
        """One a block."""
        ...


class Block(nn.Module):
    """Pre-norm residual block: attention, then MLP."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        norm = choose(NORMS, config.norm.name, "model.norm.name")
        self.norm_1 = norm(config.n_embd, config)
        self.attn = Attention(config)
        self.norm_2 = norm(config.n_embd, config)
        self.mlp = choose(MLPS, config.mlp.name, "model.mlp.name")(config)

    def forward(self, x_BTC: Tensor, context: AttentionContext, cache: LayerCache | None) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        x_BTC = x_BTC + self.attn(self.norm_1(x_BTC), context, cache)
        return x_BTC + self.mlp(self.norm_2(x_BTC))


class GPT(nn.Module):
    """A GPT-2-style language model: ``GPT(ModelConfig())(tokens[B, T]) -> logits[B, T, V]``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = choose(POSITIONS, config.positions.name, "model.positions.name")(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm_f = choose(NORMS, config.norm.name, "model.norm.name")(config.n_embd, config)
        self.lm_head = None if config.tie_head else nn.Linear(config.n_embd, config.vocab_size, bias=False)
        init_weights(self, config.n_layer)

    @property
    def head_VC(self) -> Tensor:
        """The output matrix: the token embedding's where the head is tied."""
        return self.wte.weight if self.lm_head is None else self.lm_head.weight

    def num_parameters(self) -> int:
        """Trainable numbers, a tied head counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def hidden(self, tokens_BT: Tensor, cache: Cache | None = None) -> Tensor:
        """The normalised residual stream, [B, T, C], whose product with ``head_VC`` is the logits.

        Args:
            tokens_BT: int64 token ids.
            cache: earlier tokens to attend to; the new ones are stored in it.

        Raises:
            UserError: the cached and new tokens together are longer than ``block_size``.
        """
        past, T = (cache.length if cache is not None else 0), tokens_BT.shape[1]
        if past + T > self.config.block_size:
            raise UserError(f"{past + T} tokens: the model's context is model.block_size={self.config.block_size}")
        pos_BT = torch.arange(past, past + T, device=tokens_BT.device)[None]
        context = AttentionContext(
            rotate=partial(self.positions.rotate, tables=self.positions.tables(pos_BT)),
            mask_BHTS=causal_mask(T, past, tokens_BT.device) if past and T > 1 else None,
        )
        x_BTC = self.dropout(self.positions.embed(self.wte(tokens_BT), pos_BT))
        for i, block in enumerate(self.blocks):
            x_BTC = block(x_BTC, context, cache.layers[i] if cache is not None else None)
        return self.norm_f(x_BTC)

    def forward(self, tokens_BT: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits of the next token after each position, [B, T, V]; arguments as in ``hidden``."""
        return F.linear(self.hidden(tokens_BT, cache), self.head_VC)

    def next_logits(self, tokens_BT: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits of the token after the last one alone, [B, V]; arguments as in ``hidden``."""
        return F.linear(self.hidden(tokens_BT, cache)[:, -1], self.head_VC)

    def nll_sum(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Summed negative log-likelihood (nats, float32 scalar) of the targets that are not IGNORE_INDEX.

        The [B * T, V] logits are never whole in memory.
        """
        return nll_sum(self.hidden(tokens_BT).flatten(0, 1), self.head_VC, targets_BT.flatten(), IGNORE_INDEX)

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean negative log-likelihood (nats a token) over the targets that are not IGNORE_INDEX."""
        return self.nll_sum(tokens_BT, targets_BT) / (targets_BT != IGNORE_INDEX).sum()

    @torch.no_grad()
    def token_nll(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Negative log-likelihood of each target, float32 [B, T]; 0 where the target is IGNORE_INDEX. No gradient."""
        nll = token_nll(self.hidden(tokens_BT).flatten(0, 1), self.head_VC, targets_BT.flatten(), IGNORE_INDEX)
        return nll.view_as(targets_BT)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off for a while; the mode is as it was afterwards, whatever happened."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def causal_mask(T: int, past: int, device: torch.device) -> Tensor:
    """True where new token t may attend to key s: all ``past`` cached keys and the new ones up to t. [T, past + T]."""
    return torch.ones(T, past + T, dtype=torch.bool, device=device).tril(diagonal=past)
