"""Text -> documents (``sources``) -> token shards (``preparation``) -> batches in a fixed order (``loading``).

``open_or_prepare`` finds the prepared dataset of a configuration, or prepares a small one. This package takes a
tokenizer as an argument and imports none.
"""

from gpt2lab.data.datasets import dataset_folder, open_dataset, open_or_prepare, prepare
from gpt2lab.data.inspection import describe_dataset
from gpt2lab.data.loading.batches import TrainBatches, ValidationBatches
from gpt2lab.data.loading.mixture import train_batches, validation_batches
from gpt2lab.data.loading.prefetch import Prefetcher
from gpt2lab.data.loading.sequences import Batch
from gpt2lab.data.loading.stream import TokenStream
from gpt2lab.data.manifest import (
    Manifest,
    Split,
    TextTokenizer,
    TrainableTokenizer,
    TrainedTokenizer,
    load_manifest,
    verify,
)
from gpt2lab.data.sources import SOURCES, Source, open_source

__all__ = [
    "SOURCES",
    "Batch",
    "Manifest",
    "Prefetcher",
    "Source",
    "Split",
    "TextTokenizer",
    "TokenStream",
    "TrainBatches",
    "TrainableTokenizer",
    "TrainedTokenizer",
    "ValidationBatches",
    "dataset_folder",
    "describe_dataset",
    "load_manifest",
    "open_dataset",
    "open_or_prepare",
    "open_source",
    "prepare",
    "train_batches",
    "validation_batches",
    "verify",
]
