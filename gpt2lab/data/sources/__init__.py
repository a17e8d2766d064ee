"""The sources by name. A new one is a class, an entry of ``SOURCES`` and a YAML file under ``configs/data/``."""

from collections.abc import Callable

from gpt2lab.config import DataConfig, choose
from gpt2lab.data.sources.base import Chunk, Problem, Source, Span
from gpt2lab.data.sources.jsonl import JsonlFiles
from gpt2lab.data.sources.parquet import HubDataset, ParquetFiles
from gpt2lab.data.sources.state_of_the_union import StateOfTheUnion
from gpt2lab.data.sources.text import PythonStdlib, TextFiles

__all__ = ["SOURCES", "Chunk", "Problem", "Source", "Span", "open_source"]

SOURCES: dict[str, Callable[[DataConfig], Source]] = {
    "state_of_the_union": StateOfTheUnion,
    "python_stdlib": PythonStdlib,
    "text_files": TextFiles,
    "jsonl_files": JsonlFiles,
    "parquet_files": ParquetFiles,
    "hub": HubDataset,
}


def open_source(config: DataConfig) -> Source:
    """The source that ``config`` names; nothing is read yet."""
    return choose(SOURCES, config.source, "data.source")(config)
