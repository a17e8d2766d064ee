"""A prepared set, or a mixture of several, opened for training: configuration -> manifest -> batches.

A mixture is one manifest over the shards of its sets. Its validation split is theirs, one after the other; its
training batches take from each set the share that ``data.mixture`` gives it.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gpt2lab.config import DataConfig, UserError, choose
from gpt2lab.data.loading.batches import BLOCK, TrainBatches, ValidationBatches
from gpt2lab.data.manifest import SPLITS, Manifest, Shard, Split, TextTokenizer, load_manifest
from gpt2lab.data.loading.sequences import PACKINGS
from gpt2lab.data.loading.stream import TokenStream


def open_mixture(data: DataConfig, tokenizer: TextTokenizer) -> tuple[Path, Manifest]:
    """``data.root`` and a manifest of all sets of ``data.mixture``, whose files it names from there.

    Raises:
        UserError: a set is missing, damaged or of another tokenizer.
    """
    if not data.mixture:
        raise UserError("data.mixture={}: expected sets and weights: type 'data.mixture={wikitext2: 0.7, tinystories: 0.3}'")
    root = Path(data.root)
    manifests = {name: load_manifest(root / name / tokenizer.name, tokenizer) for name in data.mixture}
    shares = shares_of(data.mixture)
    identity = [f"{name} {manifests[name].fingerprint} {share}" for name, share in zip(manifests, shares, strict=True)]
    mixture = dataclasses.replace(
        next(iter(manifests.values())),
        source={"source": "mixture", "sets": dict(zip(manifests, shares, strict=True))},
        skipped={},
        splits={split: joined(manifests, split, tokenizer.name) for split in SPLITS},
        fingerprint=hashlib.sha256("\n".join(identity).encode()).hexdigest(),
    )
    counts = np.zeros(mixture.vocab_size, dtype=np.int64)
    stream = TokenStream(root, mixture, "val")
    for begin in range(0, len(stream), 2**24):
        counts += np.bincount(stream.read(begin, min(begin + 2**24, len(stream))), minlength=len(counts))
    shares_V = counts[counts > 0] / counts.sum()
    entropy = float(-(shares_V * np.log(shares_V)).sum())
    val = dataclasses.replace(mixture.splits["val"], unigram_entropy=entropy)
    return root, dataclasses.replace(mixture, splits=mixture.splits | {"val": val})


def joined(manifests: Mapping[str, Manifest], name: str, tokenizer: str) -> Split:
    """One split of all sets, its files named from the root; its entropy is not known without counting."""
    splits = {set_name: manifest.splits[name] for set_name, manifest in manifests.items()}

    def moved(shard: Shard, folder: str) -> Shard:
        place = f"{folder}/{tokenizer}"
        return dataclasses.replace(shard, file=f"{place}/{shard.file}", starts_file=f"{place}/{shard.starts_file}")

    return Split(
        tokens=sum(split.tokens for split in splits.values()),
        documents=sum(split.documents for split in splits.values()),
        bytes=sum(split.bytes for split in splits.values()),
        unigram_entropy=float("nan"),
        shards=tuple(moved(shard, folder) for folder, split in splits.items() for shard in split.shards),
    )


def shares_of(weights: Mapping[str, float]) -> list[int]:
    """Each set's sequences out of every ``BLOCK``, in the proportion of the weights, at least one each."""
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
    """The training batches of a set that ``open_or_prepare`` opened.

    Raises:
        UserError: a split that is shorter than one sequence, or an unknown ``data.packing``.
    """
    make_sequences = choose(PACKINGS, data.packing, "data.packing")
    if data.mixture:
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
        rank=rank,
        world_size=world_size,
    )


def validation_batches(
    data: DataConfig, folder: Path, manifest: Manifest, sequence_length: int, max_tokens: int
) -> ValidationBatches:
    """The validation rows of a set that ``open_or_prepare`` opened, cut as the training rows are."""
    make_sequences = choose(PACKINGS, data.packing, "data.packing")
    rows = make_sequences(TokenStream(folder, manifest, "val"), sequence_length)
    return ValidationBatches(rows, max_tokens, document_masking=data.document_masking)
