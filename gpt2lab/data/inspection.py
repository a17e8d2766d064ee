"""Describes a prepared dataset for people: manifest and shards -> lines of text."""

import math
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2lab.data.loading.stream import TokenStream
from gpt2lab.data.manifest import Manifest

SHOWN_DOCUMENTS = 3
SHOWN_CHARACTERS = 300
SHOWN_TOKENS = 10
COUNTED_TOKENS = 2**24
"""Tokens from the beginning of a split that are counted for the most frequent ones"""


class TokenDecoder(Protocol):
    """What the description needs of a tokenizer."""

    def decode(self, ids: list[int]) -> str:
        """The text of token ids."""


def describe_dataset(folder: Path, manifest: Manifest, tokenizer: TokenDecoder) -> str:
    """Counts, lengths of documents, frequent tokens, and the beginnings of some documents spread over each split."""
    lines = [f"{folder}: tokenizer {manifest.tokenizer}, fingerprint {manifest.fingerprint}"]
    lines += [f"  {key}: {value}" for key, value in manifest.source.items() if key != "files"]
    lines += [f"  left out: {count:,} documents ({reason})" for reason, count in manifest.skipped.items()]
    for name, split in manifest.splits.items():
        stream = TokenStream(folder, manifest, name)
        starts_D = stream.starts()
        lengths_D = np.diff(starts_D, append=len(stream)) - 1
        known = not math.isnan(split.unigram_entropy)  # of a mixture, only that of the validation split is counted
        unigram_entropy = f", unigram entropy {split.unigram_entropy:.4f} nats" if known else ""
        lines += [
            "",
            f"{name}: {split.tokens:,} tokens, {split.documents:,} documents, {split.bytes:,} bytes in "
            f"{len(split.shards)} shards; {split.bytes / (split.tokens - split.documents):.2f} bytes per token"
            f"{unigram_entropy}",
            f"  tokens per document: {describe_lengths(lengths_D)}",
            f"  {frequent_tokens(stream, manifest, tokenizer)}",
        ]
        for document in np.unique(np.linspace(0, len(starts_D) - 1, SHOWN_DOCUMENTS).astype(int)).tolist():
            begin = int(starts_D[document]) + 1
            ids = stream.read(begin, begin + min(int(lengths_D[document]), SHOWN_CHARACTERS)).tolist()
            text = repr(tokenizer.decode(ids)[:SHOWN_CHARACTERS])
            lines.append(f"  document {document:,} ({lengths_D[document]:,} tokens): {text}")
    return "\n".join(lines)


def describe_lengths(length_D: NDArray[np.int64]) -> str:
    """Minimum, maximum, quartiles and mean."""
    low, quarter, median, three_quarters, high = np.quantile(length_D, [0, 0.25, 0.5, 0.75, 1]).round().astype(int)
    return f"{low:,} to {high:,}, quartiles {quarter:,} / {median:,} / {three_quarters:,}, mean {length_D.mean():,.1f}"


def frequent_tokens(stream: TokenStream, manifest: Manifest, tokenizer: TokenDecoder) -> str:
    """The most frequent tokens with their shares, and the part of the vocabulary that occurs, in the beginning."""
    tokens = stream.read(0, min(len(stream), COUNTED_TOKENS))
    counts_V = np.bincount(tokens, minlength=manifest.vocab_size)
    top = np.argsort(-counts_V, kind="stable")[:SHOWN_TOKENS].tolist()
    shares = [f"{tokenizer.decode([token])!r} {counts_V[token] / len(tokens):.1%}" for token in top if counts_V[token]]
    counted = f" of the first {len(tokens):,} tokens" if len(tokens) < len(stream) else ""
    num_ids = np.count_nonzero(counts_V)
    return f"most frequent{counted}: {', '.join(shares)}; {num_ids:,} of {manifest.vocab_size:,} ids occur"
