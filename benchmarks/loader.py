"""Reads training batches of a prepared dataset: tokens per second beside a bare copy of the same tokens.

    python benchmarks/loader.py [--batches 2000] [--repeat 3] [--sequence-length 1024] [--batch-size 16]

Prepares the default corpus in a temporary folder. ``windows`` and ``documents`` are the packings of gpt2lab, read
through the prefetcher; ``copy`` widens the same number of neighboring tokens of a memory-mapped file to int64. The
ways take turns, and the best of several repeats counts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable

import numpy as np

from gpt2lab.config import PrepareConfig, StateOfTheUnionConfig
from gpt2lab.data import Prefetcher, dataset_folder, prepare, train_batches
from gpt2lab.tokenizers import load_tokenizer


def seconds_of(load: Callable[[int], object], batches: int) -> float:
    """Seconds to read so many batches."""
    started = time.perf_counter()
    for step in range(batches):
        load(step)
    return time.perf_counter() - started


def main() -> None:
    """Prepare, measure, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=2_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sequence-length", type=int, default=1_024)
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    size = (arguments.batch_size, arguments.sequence_length)
    with tempfile.TemporaryDirectory() as root:
        tokenizer = load_tokenizer("gpt2")
        data = StateOfTheUnionConfig(root=root)
        manifest = prepare(data, PrepareConfig(), tokenizer)
        folder = dataset_folder(data, tokenizer)
        tokens = np.load(folder / manifest.splits["train"].shards[0].file, mmap_mode="r")
        starts = np.arange(arguments.batches) * size[0] * size[1] % (len(tokens) - size[0] * size[1] - 1)

        def copy(step: int) -> tuple[np.ndarray, np.ndarray]:
            part = tokens[starts[step] : starts[step] + size[0] * size[1] + 1].astype(np.int64)
            return part[:-1].reshape(size), part[1:].reshape(size)

        ways: dict[str, Callable[[int], object]] = {"copy": copy}
        for packing in ("windows", "documents"):
            config = StateOfTheUnionConfig(root=root, packing=packing)
            ways[packing] = Prefetcher(train_batches(config, folder, manifest, *size, seed=0).batch)
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(arguments.repeat):
            for name, load in ways.items():
                best[name] = min(best[name], seconds_of(load, arguments.batches))
    print(f"{arguments.batches} batches of {size[0]} x {size[1]} tokens, best of {arguments.repeat}\n")
    print("| way | tokens/s | of a copy |\n|---|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {arguments.batches * size[0] * size[1] / seconds:,.0f} | {best['copy'] / seconds:.2f} |")


if __name__ == "__main__":
    main()
