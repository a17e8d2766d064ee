"""GPT-2, assembled from the variants that the configuration names.

    tokens -> wte (+ positions) -> n_layer x [x + attn(norm_1(x)); x + mlp(norm_2(x))] -> norm_f -> head -> logits

Legend: B = batch, T = tokens, C = n_embd, V = vocab_size, P = rows of the embedding and the head: V and padding.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from gpt2lab.config import IGNORE_INDEX, ModelConfig, UserError
from gpt2lab.model.attention import Attention, AttentionContext, LayerCache
from gpt2lab.model.head import head_logits
from gpt2lab.model.init import init_weights
from gpt2lab.model.layout import Layout, attention_mask, contiguous
from gpt2lab.model.loss import objective_sum, target_nll
from gpt2lab.model.mlp import MLPS
from gpt2lab.model.norms import NORMS
from gpt2lab.model.positions import POSITIONS, Positions
from gpt2lab.model.variants import find_variant


class Cache(Protocol):
    """Keys and values of the tokens a model has already read."""

    @property
    def length(self) -> int:
        """Tokens stored."""
        ...

    @property
    def layers(self) -> Sequence[LayerCache]:
        """One per block."""
        ...

    def extend(self, new: Layout) -> Layout:
        """Record the layout of the next tokens; return the layout of all tokens, stored and new."""
        ...


class Block(nn.Module):
    """Pre-norm residual block: attention, then MLP."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        norm = find_variant(NORMS, config.norm.name, "model.norm.name")
        self.norm_1 = norm(config.n_embd, config)
        self.attn = Attention(config)
        self.norm_2 = norm(config.n_embd, config)
        self.mlp = find_variant(MLPS, config.mlp.name, "model.mlp.name")(config)

    def forward(self, x_BTC: Tensor, context: AttentionContext, cache: LayerCache | None) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        x_BTC = x_BTC + self.attn(self.norm_1(x_BTC), context, cache)
        return x_BTC + self.mlp(self.norm_2(x_BTC))


class GPT(nn.Module):
    """A GPT-2-style language model: ``GPT(ModelConfig())(tokens[B, T]) -> logits[B, T, V]``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.padded_vocab_size, config.n_embd)
        self.positions = find_variant(POSITIONS, config.positions.name, "model.positions.name", Positions)(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm_f = find_variant(NORMS, config.norm.name, "model.norm.name")(config.n_embd, config)
        self.lm_head = None if config.tie_head else nn.Linear(config.n_embd, config.padded_vocab_size, bias=False)
        init_weights(self, config.n_layer)

    @property
    def head_PC(self) -> Tensor:
        """The output matrix: the token embedding's where the head is tied."""
        return self.wte.weight if self.lm_head is None else self.lm_head.weight

    def num_parameters(self) -> int:
        """Number of parameters; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def num_parameters_without_embeddings(self) -> int:
        """The same without the tables of tokens and positions and without the output matrix."""
        tables = [module.weight for module in self.modules() if isinstance(module, nn.Embedding)]
        left_out = {id(weight) for weight in (*tables, self.head_PC)}
        return sum(parameter.numel() for parameter in self.parameters() if id(parameter) not in left_out)

    def hidden(self, tokens_BT: Tensor, *, layout: Layout | None = None, cache: Cache | None = None) -> Tensor:
        """The residual stream after the last norm, [B, T, C]: the input of ``logits`` and ``nll``.

        Args:
            tokens_BT: int64 token ids.
            layout: positions and segments of these tokens; None: each row is one text that continues the cache.
            cache: earlier tokens to attend to; the new ones are appended to it.

        Raises:
            UserError: the tokens need more positions than the scheme has (learned positions end at ``block_size``).
        """
        past, T = (cache.length if cache is not None else 0), tokens_BT.shape[1]
        max_length = self.positions.max_length
        if max_length is not None and past + T > max_length:
            raise UserError(
                f"{past + T} tokens: model.positions={self.config.positions.name} ends at "
                f"model.block_size={max_length}; shorten the text"
            )
        new = layout or contiguous(past, T, tokens_BT.device)
        seen = cache.extend(new) if cache is not None else new
        context = AttentionContext(
            rotate=partial(self.positions.rotate, tables=self.positions.tables(new.pos_BT)),
            mask_BHTS=attention_mask(new, seen, self.positions.bias(new.pos_BT, seen.pos_BT)),
        )
        x_BTC = self.dropout(self.positions.embed(self.wte(tokens_BT), new.pos_BT))
        for i, block in enumerate(self.blocks):
            x_BTC = block(x_BTC, context, cache.layers[i] if cache is not None else None)
        return self.norm_f(x_BTC)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next token, [..., V], from hidden states [..., C]; padding of the vocabulary is left out.

        Float32 also under autocast, unless a gradient is recorded (``gpt2lab.model.head``).
        """
        return head_logits(hidden, self.head_PC)[..., : self.config.vocab_size]

    def forward(self, tokens_BT: Tensor, *, layout: Layout | None = None, cache: Cache | None = None) -> Tensor:
        """Logits of the next token after each position, [B, T, V]; arguments as in ``hidden``."""
        return self.logits(self.hidden(tokens_BT, layout=layout, cache=cache))

    @torch.no_grad()
    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of each target in nats, without gradient.

        Args:
            hidden: the states that predict the targets, [..., C].
            targets: int64 token ids, [...]; those that are IGNORE_INDEX get 0.

        Returns:
            Float32 of the targets' shape. The logits of all targets are never in memory at once.
        """
        hidden_NC = hidden.reshape(targets.numel(), self.config.n_embd)
        return target_nll(hidden_NC, self.head_PC, targets.flatten(), self.config.vocab_size).view_as(targets)

    def token_nll(self, tokens_BT: Tensor, targets_BT: Tensor, *, layout: Layout | None = None) -> Tensor:
        """``nll`` of each target after the tokens up to its position, float32 [B, T], without gradient."""
        with torch.no_grad():
            return self.nll(self.hidden(tokens_BT, layout=layout), targets_BT)

    def objective_sum(
        self, tokens_BT: Tensor, targets_BT: Tensor, *, layout: Layout | None = None, z_loss: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """The training objective, summed over the targets that are not IGNORE_INDEX.

        Returns:
            Float32 scalars: the negative log-likelihood with the z-loss added, which is differentiable, and the
            negative log-likelihood alone, which is a metric. The [B * T, V] logits are never in memory at once.
        """
        hidden_NC, targets_N = self.hidden(tokens_BT, layout=layout).flatten(0, 1), targets_BT.flatten()
        return objective_sum(hidden_NC, self.head_PC, targets_N, self.config.vocab_size, z_loss)

    def nll_sum(self, tokens_BT: Tensor, targets_BT: Tensor, *, layout: Layout | None = None) -> Tensor:
        """Summed negative log-likelihood (nats, float32 scalar) of the targets that are not IGNORE_INDEX."""
        objective, _ = self.objective_sum(tokens_BT, targets_BT, layout=layout)
        return objective

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean negative log-likelihood (nats per token) over the targets that are not IGNORE_INDEX."""
        return self.nll_sum(tokens_BT, targets_BT) / (targets_BT != IGNORE_INDEX).sum()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Run a block with dropout off, and restore the previous mode afterwards, also after an error."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
