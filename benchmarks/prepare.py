"""Text to tokens on the disk: gpt2lab beside what people use now, and beside the tokenizer alone.

    python benchmarks/prepare.py [--megabytes 30] [--repeat 3] [--workers 2]

The corpus is JSONL made of the source of Python's standard library, cut into documents of a few kilobytes. Each way is
a Python process of its own, timed from its start to its end, so that everybody's imports and workers count:

    datasets.map   load_dataset, map with num_proc, then a write of all ids into one memory map (nanoGPT's prepare.py)
    tiktoken       the text dealt out to that many processes, which encode it and drop the ids: a ceiling
    gpt2lab        prepare(): read, split, hash, tokenise, write, sync, rename

Prints a Markdown table: the best seconds of several, tokens a second, peak memory of the largest process, and the
largest disk use while it ran, beside the size of what it left. --memory also prepares a corpus 20 times as large.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT_BYTES = 4_000

WAYS = {
    "datasets.map": """
import sys, os, numpy as np, datasets
corpus, out, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
datasets.disable_progress_bars()
from gpt2lab.tokenizers import load_tokenizer
encoding = load_tokenizer("gpt2").encoder.encoding
def process(example):
    ids = encoding.encode_ordinary(example["text"])
    ids.append(encoding.eot_token)
    return {"ids": ids, "len": len(ids)}
if __name__ == "__main__":
    data = datasets.load_dataset("json", data_files=corpus, split="train", cache_dir=out + "/cache")
    data = data.map(process, remove_columns=["text"], num_proc=workers)
    total = np.sum(data["len"], dtype=np.uint64)
    array = np.memmap(out + "/train.bin", dtype=np.uint16, mode="w+", shape=(int(total),))
    position, batches = 0, min(1024, len(data))
    for batch in range(batches):
        part = data.shard(num_shards=batches, index=batch, contiguous=True).with_format("numpy")
        ids = np.concatenate(part["ids"])
        array[position : position + len(ids)] = ids
        position += len(ids)
    array.flush()
    print(int(total))
""",
    "tiktoken": """
import sys, json, multiprocessing
corpus, out, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
from gpt2lab.tokenizers import load_tokenizer
encoding = load_tokenizer("gpt2").encoder.encoding
def encode(texts):
    return sum(len(encoding.encode_ordinary(text)) + 1 for text in texts)
if __name__ == "__main__":
    with open(corpus, "rb") as file:
        texts = [json.loads(line)["text"] for line in file]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        print(sum(pool.imap_unordered(encode, [texts[i : i + 250] for i in range(0, len(texts), 250)])))
""",
    "gpt2lab": """
import sys
from gpt2lab.config import DataConfig, JsonlFilesConfig, PrepareConfig
from gpt2lab.data import prepare
from gpt2lab.tokenizers import load_tokenizer
corpus, out, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = JsonlFilesConfig(name="corpus", root=out, files=[corpus], val_fraction=0.01)
manifest = prepare(data, PrepareConfig(num_workers=workers), load_tokenizer("gpt2"))
print(sum(split.tokens for split in manifest.splits.values()))
""",
}


def write_corpus(path: Path, size: int) -> None:
    """JSONL of about ``size`` bytes of text; the files are read again, under another heading, until it is reached."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    written = turn = 0
    with path.open("w", encoding="utf-8") as out:
        while written < size:
            for file in files:
                text = file.read_bytes().decode("utf-8", errors="ignore")
                for begin in range(0, len(text), DOCUMENT_BYTES):
                    document = f"# {turn} {begin}\n" + text[begin : begin + DOCUMENT_BYTES]
                    out.write(json.dumps({"text": document}, ensure_ascii=False) + "\n")
                    written += len(document.encode("utf-8"))
                if written >= size:
                    return
            turn += 1


def disk_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, some of which may go while they are counted."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(where, name).stat().st_size
            except FileNotFoundError:
                continue
    return total


class Run(NamedTuple):
    """One measurement."""

    seconds: float
    cpu_seconds: float
    """of all its processes: the figure to compare on a machine that others use too"""
    tokens: int
    memory: int
    """peak resident bytes of the largest process"""
    peak_disk: int
    left_disk: int


def measure(way: str, corpus: Path, workers: int) -> Run:
    """Run one way once, in this process's child."""
    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        command = [sys.executable, "-c", WAYS[way], str(corpus), folder, str(workers)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        peak = 0
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            peak = max(peak, disk_bytes(Path(folder)))
            time.sleep(0.02)
        seconds = time.perf_counter() - started
        assert process.stdout
        tokens = int(process.stdout.read())
        shutil.rmtree(Path(folder, "cache"), ignore_errors=True)
        left = disk_bytes(Path(folder))
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Run(seconds, usage.ru_utime + usage.ru_stime, tokens, usage.ru_maxrss * 1024, max(peak, left), left)


def in_own_process(way: str, corpus: Path, workers: int) -> Run:
    """``measure`` in a child, since the peak memory of children is that of the largest there ever was."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); import prepare, pathlib, json;"
        f"print(json.dumps(prepare.measure({way!r}, pathlib.Path({str(corpus)!r}), {workers})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Run(*json.loads(result.stdout))


def table(corpus: Path, workers: int, repeat: int) -> None:
    """All three ways, turn by turn, so that a busy moment of the machine hits all of them."""
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    for _ in range(repeat):
        for way in WAYS:
            runs[way].append(in_own_process(way, corpus, workers))
    best = {way: min(results) for way, results in runs.items()}
    cpu = {way: min(run.cpu_seconds for run in results) for way, results in runs.items()}
    print(f"## {corpus.stat().st_size / 1e6:.0f} MB of JSONL, {workers} processes, best of {repeat}\n")
    print("| way | seconds | CPU seconds | tokens/s | of tiktoken | peak memory | peak disk / left |")
    print("|---|---|---|---|---|---|---|")
    for way, run in best.items():
        share = best["tiktoken"].seconds / run.seconds * run.tokens / best["tiktoken"].tokens
        disk = f"{run.peak_disk / run.left_disk:.2f}" if run.left_disk else ""
        memory, rate = f"{run.memory / 2**20:.0f} MiB", f"{run.tokens / run.seconds:,.0f}"
        print(f"| {way} | {run.seconds:.2f} | {cpu[way]:.2f} | {rate} | {share:.2f} | {memory} | {disk} |")
    faster = best["datasets.map"].seconds / best["gpt2lab"].seconds
    print(f"\ngpt2lab is {faster:.2f} times datasets.map; {cpu['datasets.map'] / cpu['gpt2lab']:.2f} by CPU seconds\n")


def main() -> None:
    """Make the corpus, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="peak memory at 20 times the size beside it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus.jsonl")
        write_corpus(corpus, arguments.megabytes * 10**6)
        table(corpus, arguments.workers, arguments.repeat)
        if arguments.memory:
            large = Path(folder, "large.jsonl")
            write_corpus(large, 20 * arguments.megabytes * 10**6)
            memory = [in_own_process("gpt2lab", path, arguments.workers).memory / 2**20 for path in (corpus, large)]
            print(
                f"peak memory of gpt2lab's largest process: {memory[0]:.0f} MiB, at 20 times the size {memory[1]:.0f}"
            )


if __name__ == "__main__":
    main()
