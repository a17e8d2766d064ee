"""Reference losses: what models without context, or with one token of context, score on the validation split.

Both are counted, not trained: a trained model should be below them. The unigram model knows the frequencies of the
validation split itself (its entropy is in the manifest); the bigram model is estimated on the training split. Their
bits per byte are over the tokens and bytes of the sequences that the trained model was scored on.

Legend: N = training tokens, M = validation tokens, V = vocabulary size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2lab.data import Manifest
from gpt2lab.data.loading.stream import TokenStream
from gpt2lab.evaluation.scoring import Perplexity

MAX_TRAIN_TOKENS = 10_000_000
"""tokens that are counted at most; counting that many takes about two seconds"""
MAX_VAL_TOKENS = 2_000_000

UNIGRAM = "unigram"


@dataclass(frozen=True)
class Reference:
    """A reference model's name and its score on the validation split."""

    name: str
    score: Perplexity


def unigram(manifest: Manifest, scored: Perplexity) -> Reference:
    """The entropy of the validation split's token frequencies; ``scored`` is the trained model's validation."""
    return _reference(UNIGRAM, manifest.splits["val"].unigram_entropy, scored)


def bigram(
    train: Sequence[TokenStream], val: Sequence[tuple[TokenStream, float]], vocab_size: int, scored: Perplexity
) -> Reference:
    """A Witten-Bell bigram model of the training split; of large sets only the first tokens are counted.

    Args:
        train: the training tokens of each prepared dataset; each gives an equal part of those counted.
        val: the validation tokens of each prepared dataset, and its share of the loss.
        vocab_size: of the tokens.
        scored: the trained model's validation, for the bytes per token.
    """
    share = MAX_TRAIN_TOKENS // len(train)
    counted = np.concatenate([stream.read(0, min(share, len(stream))) for stream in train])
    loss = 0.0
    for stream, weight in val:
        val_M = stream.read(0, min(MAX_VAL_TOKENS // len(val), len(stream)))
        loss += weight * witten_bell_loss(counted, val_M, vocab_size)
    return _reference("bigram", loss, scored)


def witten_bell_loss(train_N: NDArray[np.integer], val_M: NDArray[np.integer], vocab_size: int) -> float:
    """Nats per token of an interpolated Witten-Bell bigram model. Witten and Bell 1991; Chen and Goodman 1999, 2.4.

        P(w)     = (c(w) + D / V) / (N + D)                  D: distinct tokens
        P(w | v) = (c(v w) + D(v) P(w)) / (c(v) + D(v))      D(v): distinct tokens seen after v

    A context v that was never seen leaves P(w). The first token of ``val_M`` is context only.
    """
    counts_V = np.bincount(train_N, minlength=vocab_size).astype(np.float64)
    distinct = np.count_nonzero(counts_V)
    unigram_V = (counts_V + distinct / vocab_size) / (len(train_N) + distinct)

    pairs, pair_counts = np.unique(_pairs(train_N, vocab_size), return_counts=True)
    contexts = pairs // vocab_size
    context_counts_V = np.bincount(contexts, weights=pair_counts, minlength=vocab_size)
    followers_V = np.bincount(contexts, minlength=vocab_size)

    scored = _pairs(val_M, vocab_size)
    place = np.searchsorted(pairs, scored).clip(max=len(pairs) - 1)
    seen = np.where(pairs[place] == scored, pair_counts[place], 0)
    before, after = val_M[:-1], val_M[1:]
    total = context_counts_V[before] + followers_V[before]
    backoff = followers_V[before] * unigram_V[after]
    probability = np.where(total > 0, (seen + backoff) / np.maximum(total, 1), unigram_V[after])
    return float(-np.log(probability).mean())


def _pairs(tokens: NDArray[np.integer], vocab_size: int) -> NDArray[np.int64]:
    """Each pair of neighbors as one number."""
    wide = tokens.astype(np.int64)
    return wide[:-1] * vocab_size + wide[1:]


def _reference(name: str, loss: float, scored: Perplexity) -> Reference:
    return Reference(name, Perplexity(loss * scored.tokens, scored.tokens, scored.bytes))
