"""Opens the splits of a prepared dataset, or of a mixture of several, for training.

A mixture is one manifest over the shards of its datasets. Training and validation take from each dataset the share that
``data.mixture`` gives it, whatever its size.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import DataConfig, UserError, choose
from gpt2lab.config.data import MixtureConfig
from gpt2lab.data.loading.batches import BLOCK, TrainBatches, ValidationBatches
from gpt2lab.data.loading.sequences import PACKINGS, Batch, Sequences
from gpt2lab.data.loading.stream import TokenStream
from gpt2lab.data.manifest import (
    SPLITS,
    Manifest,
    Shard,
    Split,
    TextTokenizer,
    TrainableTokenizer,
    entropy,
    load_manifest,
)

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
        source={"source": "mixture", "datasets": dict(zip(manifests, shares, strict=True))},
        skipped={},
        splits={split: join_splits(manifests, split, tokenizer.name) for split in SPLITS},
        fingerprint=hashlib.sha256("\n".join(identity).encode()).hexdigest(),
        tokenizer_files={
            f"{name}/{tokenizer.name}/{file}": sha256
            for name, manifest in manifests.items()
            for file, sha256 in manifest.tokenizer_files.items()
        },
    )
    val = dataclasses.replace(mixture.splits["val"], unigram_entropy=unigram_entropy(root, manifests, shares))
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


def unigram_entropy(root: Path, manifests: Mapping[str, Manifest], shares: Sequence[int]) -> float:
    """Nats per token of the token frequencies of the datasets' validation splits, each with its share."""
    frequencies_V = np.zeros(next(iter(manifests.values())).vocab_size)
    for (name, manifest), share in zip(manifests.items(), shares, strict=True):
        counts_V = np.zeros(len(frequencies_V), dtype=np.int64)
        stream = TokenStream(root / name / manifest.tokenizer, manifest, "val")
        for begin in range(0, len(stream), COUNTED_AT_ONCE):
            tokens = stream.read(begin, min(begin + COUNTED_AT_ONCE, len(stream)))
            counts_V += np.bincount(tokens, minlength=len(counts_V))
        frequencies_V += share / BLOCK * counts_V / counts_V.sum()
    return entropy(frequencies_V)


def shares_of(weights: Mapping[str, float]) -> list[int]:
    """Sequences of each dataset out of every ``BLOCK``, in the proportion of the weights, at least one each."""
    total = sum(weights.values())
    ends = [round(BLOCK * end / total) for end in itertools.accumulate(weights.values())]
    shares = [end - begin for begin, end in itertools.pairwise([0, *ends])]
    if min(shares) < 1:
        name, weight = min(weights.items(), key=lambda item: item[1])
        raise UserError(f"data.mixture.{name}={weight}: expected at least a share of {total / BLOCK}, or leave it out")
    return shares


def mixture_streams(data: MixtureConfig, root: Path, manifest: Manifest, split: str) -> list[TokenStream]:
    """The split of each dataset of a mixture."""
    folders = [root / name / manifest.tokenizer for name in data.mixture]
    return [TokenStream(folder, load_manifest(folder), split) for folder in folders]


class SharedSequences(Sequences):
    """Sequences of several datasets in given shares, as one list: as many as the scarcest dataset allows.

    Those of each dataset stand together and are spread evenly over its split, so an evenly spread selection of the list
    keeps the shares.
    """

    def __init__(self, stream: TokenStream, datasets: Sequence[Sequences], shares: Sequence[int]) -> None:
        super().__init__(stream, datasets[0].sequence_length)
        self._datasets, self._shares = datasets, shares
        total = min(len(dataset) * BLOCK // share for dataset, share in zip(datasets, shares, strict=True))
        counts = [max(1, total * share // BLOCK) for share in shares]
        self._dataset_n = np.repeat(np.arange(len(datasets)), counts)
        self._number_n = np.concatenate(
            [np.arange(count) * len(dataset) // count for dataset, count in zip(datasets, counts, strict=True)]
        )

    @property
    def parts(self) -> list[tuple[TokenStream, float]]:
        """See ``Sequences.parts``."""
        return [(own.stream, share / BLOCK) for own, share in zip(self._datasets, self._shares, strict=True)]

    def __len__(self) -> int:
        return len(self._number_n)

    def read(self, sequence_B: NDArray[np.int64]) -> Batch:
        """See ``Sequences.read``."""
        rows = [self._datasets[self._dataset_n[i]].read(self._number_n[i : i + 1]) for i in sequence_B.tolist()]
        return Batch(np.concatenate([row.inputs_BT for row in rows]), np.concatenate([row.targets_BT for row in rows]))


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
        streams, shares = mixture_streams(data, folder, manifest, "train"), shares_of(data.mixture)
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
    stream = TokenStream(folder, manifest, "val")
    if isinstance(data, MixtureConfig):
        datasets = [make_sequences(own, sequence_length) for own in mixture_streams(data, folder, manifest, "val")]
        sequences: Sequences = SharedSequences(stream, datasets, shares_of(data.mixture))
    else:
        sequences = make_sequences(stream, sequence_length)
    return ValidationBatches(sequences, max_tokens, document_masking=data.document_masking)
