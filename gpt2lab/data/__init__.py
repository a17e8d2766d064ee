"""Text -> documents (sources) -> token files (prepare, shards, manifest) -> batches in a fixed order (batches).

This package takes a tokenizer as an argument and never imports one.
"""

from gpt2lab.config import PADDING_TARGET
from gpt2lab.data.loading.batches import TrainBatches, ValidationBatches
from gpt2lab.data.inspection import inspect
from gpt2lab.data.manifest import Manifest, Split, TextTokenizer, load_manifest, verify
from gpt2lab.data.loading.mixture import train_batches, validation_batches
from gpt2lab.data.loading.prefetch import Prefetcher
from gpt2lab.data.loading.sequences import Batch
from gpt2lab.data.datasets import open_or_prepare, open_dataset, prepare, dataset_folder
from gpt2lab.data.sources import SOURCES, Source, open_source
from gpt2lab.data.loading.stream import TokenStream

__all__ = [
    "PADDING_TARGET",
    "SOURCES",
    "Batch",
    "Manifest",
    "Prefetcher",
    "Source",
    "Split",
    "TextTokenizer",
    "TokenStream",
    "TrainBatches",
    "ValidationBatches",
    "inspect",
    "load_manifest",
    "open_or_prepare",
    "open_dataset",
    "open_source",
    "prepare",
    "dataset_folder",
    "train_batches",
    "validation_batches",
    "verify",
]
