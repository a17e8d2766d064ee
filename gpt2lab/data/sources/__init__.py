"""The data sources by name.

A new source is a dataclass and an entry of ``DATA_SOURCES`` in ``gpt2lab/config/data.py``, a class and an entry of
``SOURCES`` here, and a YAML file under ``configs/data/``.
"""

from collections.abc import Callable
from typing import Any

from gpt2lab.config import DataConfig, choose
from gpt2lab.data.sources.base import Chunk, Problem, Source, Span
from gpt2lab.data.sources.hub import HubDataset
from gpt2lab.data.sources.jsonl import JsonlFiles
from gpt2lab.data.sources.parquet import ParquetFiles
from gpt2lab.data.sources.state_of_the_union import StateOfTheUnion
from gpt2lab.data.sources.text import PythonStdlib, TextFiles

__all__ = ["SOURCES", "Chunk", "Problem", "Source", "Span", "open_source"]

SOURCES: dict[str, Callable[[Any], Source]] = {
    "state_of_the_union": StateOfTheUnion,
    "python_stdlib": PythonStdlib,
    "text_files": TextFiles,
    "jsonl_files": JsonlFiles,
    "parquet_files": ParquetFiles,
    "hub": HubDataset,
}


def open_source(config: DataConfig) -> Source:
    """The source that ``config`` names; nothing is read yet."""
    return choose(SOURCES, config.source, "data")(config)
