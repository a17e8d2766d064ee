"""Opens the splits of a prepared dataset, or of a mixture of several, for training.

A mixture is one manifest over the shards of its datasets. Its validation split is theirs, one after the other; its
training batches take from each dataset the share that ``data.mixture`` gives it.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gpt2lab.config import DataConfig, UserError, choose
from gpt2lab.config.data import MixtureConfig
from gpt2lab.data.loading.batches import BLOCK, TrainBatches, ValidationBatches
from gpt2lab.data.loading.sequences import PACKINGS
from gpt2lab.data.loading.stream import TokenStream
from gpt2lab.data.manifest import SPLITS, Manifest, Shard, Split, TextTokenizer, TrainableTokenizer, load_manifest

COUNTED_AT_ONCE = 2**24
"""Tokens that are counted at a time for the entropy"""


def open_mixture(data: MixtureConfig, tokenizer: TextTokenizer | TrainableTokenizer) -> tuple[Path, Manifest]:
    """``data.root``, and a manifest of all datasets of ``data.mixture`` with file names relative to it.

    Raises:
        UserError: a dataset is missing, damaged or made with another tokenizer.
    """
    root = Path(data.root)
    manifests = {name: load_manifest(root / name / tokenizer.name, tokenizer) for name in data.mixture}
    shares = shares_of(data.mixture)
    fingerprints = {name: manifest.tokenizer_fingerprint for name, manifest in manifests.items()}
    if len(set(fingerprints.values())) > 1:
        found = ", ".join(f"{name} {fingerprint[:12]}" for name, fingerprint in fingerprints.items())
        raise UserError(
            f"data.mixture={data.mixture}: expected one tokenizer for all datasets, found {found}: a tokenizer that is "
            "trained on each dataset differs between them; prepare all of them with tokenizer=gpt2 or "
            "tokenizer=huggingface"
        )
    identity = [f"{name} {manifests[name].fingerprint} {share}" for name, share in zip(manifests, shares, strict=True)]
    mixture = dataclasses.replace(
        next(iter(manifests.values())),
        source={"source": "mixture", "sets": dict(zip(manifests, shares, strict=True))},
        skipped={},
        splits={split: join_splits(manifests, split, tokenizer.name) for split in SPLITS},
        fingerprint=hashlib.sha256("\n".join(identity).encode()).hexdigest(),
    )
    val = dataclasses.replace(mixture.splits["val"], unigram_entropy=unigram_entropy(root, mixture, "val"))
    return root, dataclasses.replace(mixture, splits=mixture.splits | {"val": val})


def join_splits(manifests: Mapping[str, Manifest], name: str, tokenizer: str) -> Split:
    """One split of all datasets, its files named from the root; the entropy is left out, since it needs counting."""
    splits = {dataset: manifest.splits[name] for dataset, manifest in manifests.items()}

    def from_root(shard: Shard, dataset: str) -> Shard:
        folder = f"{dataset}/{tokenizer}"
        return dataclasses.replace(shard, file=f"{folder}/{shard.file}", starts_file=f"{folder}/{shard.starts_file}")

    return Split(
        tokens=sum(split.tokens for split in splits.values()),
        documents=sum(split.documents for split in splits.values()),
        bytes=sum(split.bytes for split in splits.values()),
        unigram_entropy=float("nan"),
        shards=tuple(from_root(shard, dataset) for dataset, split in splits.items() for shard in split.shards),
    )


def unigram_entropy(folder: Path, manifest: Manifest, split: str) -> float:
    """Nats per token of the token frequencies of a split."""
    counts_V = np.zeros(manifest.vocab_size, dtype=np.int64)
    stream = TokenStream(folder, manifest, split)
    for begin in range(0, len(stream), COUNTED_AT_ONCE):
        tokens = stream.read(begin, min(begin + COUNTED_AT_ONCE, len(stream)))
        counts_V += np.bincount(tokens, minlength=len(counts_V))
    frequencies = counts_V[counts_V > 0] / counts_V.sum()
    return float(-(frequencies * np.log(frequencies)).sum())


def shares_of(weights: Mapping[str, float]) -> list[int]:
    """Sequences of each dataset out of every ``BLOCK``, in the proportion of the weights, at least one each."""
    total = sum(weights.values())
    ends = [round(BLOCK * end / total) for end in itertools.accumulate(weights.values())]
    shares = [end - begin for begin, end in itertools.pairwise([0, *ends])]
    if min(shares) < 1:
        name, weight = min(weights.items(), key=lambda item: item[1])
        raise UserError(f"data.mixture.{name}={weight}: expected at least a share of {total / BLOCK}, or leave it out")
    return shares


def train_batches(
    data: DataConfig,
    folder: Path,
    manifest: Manifest,
    batch_size: int,
    sequence_length: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> TrainBatches:
    """The training batches of a dataset that ``open_or_prepare`` opened; ``rank`` reads its part of each batch.

    Raises:
        UserError: a split that is shorter than one sequence, or an unknown ``data.packing``.
    """
    make_sequences = choose(PACKINGS, data.packing, "data.packing")
    if isinstance(data, MixtureConfig):
        folders = [folder / name / manifest.tokenizer for name in data.mixture]
        streams = [TokenStream(path, load_manifest(path), "train") for path in folders]
        shares = shares_of(data.mixture)
    else:
        streams, shares = [TokenStream(folder, manifest, "train")], [BLOCK]
    return TrainBatches(
        [make_sequences(stream, sequence_length) for stream in streams],
        batch_size,
        seed,
        shares=shares,
        document_masking=data.document_masking,
        random_lengths=data.random_lengths,
        rank=rank,
        world_size=world_size,
    )


def validation_batches(
    data: DataConfig, folder: Path, manifest: Manifest, sequence_length: int, max_tokens: int
) -> ValidationBatches:
    """The validation sequences of a dataset that ``open_or_prepare`` opened, made as the training sequences are."""
    make_sequences = choose(PACKINGS, data.packing, "data.packing")
    sequences = make_sequences(TokenStream(folder, manifest, "val"), sequence_length)
    return ValidationBatches(sequences, max_tokens, document_masking=data.document_masking)
