"""Text -> documents (sources) -> token files (prepare, shards, manifest) -> batches in a fixed order (batches).

This package takes a tokenizer as an argument and never imports one.
"""

from gpt2lab.config import IGNORE_INDEX
from gpt2lab.data.loading.batches import TrainBatches, ValWindows
from gpt2lab.data.inspection import inspect
from gpt2lab.data.manifest import Manifest, Split, TextTokenizer, load_manifest, verify
from gpt2lab.data.loading.mixture import train_batches, val_windows
from gpt2lab.data.loading.prefetch import ReadAhead
from gpt2lab.data.loading.sequences import Batch
from gpt2lab.data.datasets import open_or_prepare, open_set, prepare, set_folder
from gpt2lab.data.sources import SOURCES, Source, open_source
from gpt2lab.data.loading.stream import TokenStream

__all__ = [
    "IGNORE_INDEX",
    "SOURCES",
    "Batch",
    "Manifest",
    "ReadAhead",
    "Source",
    "Split",
    "TextTokenizer",
    "TokenStream",
    "TrainBatches",
    "ValWindows",
    "inspect",
    "load_manifest",
    "open_or_prepare",
    "open_set",
    "open_source",
    "prepare",
    "set_folder",
    "train_batches",
    "val_windows",
    "verify",
]
