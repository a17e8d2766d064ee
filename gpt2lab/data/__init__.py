"""Text -> documents (sources) -> token files (prepare, shards, manifest) -> batches in a fixed order (batches).

This package takes a tokenizer as an argument and never imports one.
"""

from gpt2lab.data.batches import TrainBatches, ValWindows
from gpt2lab.data.manifest import Manifest, Split, TextTokenizer, load_manifest, verify
from gpt2lab.data.sets import open_or_prepare, prepare, set_folder
from gpt2lab.data.sources import SOURCES, Source, open_source
from gpt2lab.data.stream import TokenStream

__all__ = [
    "SOURCES",
    "Manifest",
    "Source",
    "Split",
    "TextTokenizer",
    "TokenStream",
    "TrainBatches",
    "ValWindows",
    "load_manifest",
    "open_or_prepare",
    "open_source",
    "prepare",
    "set_folder",
    "verify",
]
