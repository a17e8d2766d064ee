"""Text to tokens on the disk, against ``datasets.map``; and how fast batches are read."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, Pair, Worker

DOCUMENT_CHARACTERS = 4_000

DATASETS_MAP = """
import sys, numpy as np, datasets
from gpt2lab.tokenizers import load_tokenizer
corpus, out, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
datasets.disable_progress_bars()
tokenizer = load_tokenizer("gpt2")
def process(example):
    ids = tokenizer.encode(example["text"])
    ids.append(tokenizer.eot_id)
    return {"ids": ids, "len": len(ids)}
if __name__ == "__main__":
    data = datasets.load_dataset("json", data_files=corpus, split="train", cache_dir=out + "/cache")
    data = data.map(process, remove_columns=["text"], num_proc=workers)
    array = np.memmap(out + "/train.bin", dtype=np.uint16, mode="w+", shape=(int(np.sum(data["len"])),))
    position, batches = 0, min(1024, len(data))
    for batch in range(batches):
        part = data.shard(num_shards=batches, index=batch, contiguous=True).with_format("numpy")
        ids = np.concatenate(part["ids"])
        array[position : position + len(ids)] = ids
        position += len(ids)
    array.flush()
"""


def write_corpus(path: Path, size: int) -> None:
    """JSONL of about ``size`` characters: the source of Python's standard library, cut into documents."""
    written = 0
    with path.open("w", encoding="utf-8") as out:
        for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
            source = file.read_text(encoding="utf-8", errors="ignore")
            for begin in range(0, len(source), DOCUMENT_CHARACTERS):
                document = source[begin : begin + DOCUMENT_CHARACTERS]
                out.write(json.dumps({"text": document}) + "\n")
                written += len(document)
            if written >= size:
                return


def prepared_by(command: Callable[[str, str, int], list[str]]) -> Worker:
    """A whole command, from start to end: imports and workers count."""

    def prepare(case: Mapping[str, Any]) -> Callable[[], float]:
        folder = Path(tempfile.mkdtemp())
        corpus = folder / "corpus.jsonl"
        write_corpus(corpus, case["megabytes"] * 10**6)

        def run() -> float:
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            workers = os.cpu_count() or 1
            subprocess.run(command(str(corpus), str(out), workers), cwd=ROOT, check=True, capture_output=True)
            return case["megabytes"]

        return run

    return prepare


def gpt2lab_command(corpus: str, out: str, workers: int) -> list[str]:
    """``prepare.py`` on the corpus."""
    return [
        sys.executable, str(ROOT / "prepare.py"), "data=jsonl_files", f"data.files=[{corpus}]", "data.name=corpus",
        "tokenizer=gpt2", f"data.root={out}", "data.val_fraction=0.01", f"prepare.num_workers={workers}",
    ]  # fmt: skip


def loader(case: Mapping[str, Any]) -> Callable[[], float]:
    """Batches of 32 x 1024 tokens in the order of training, from a dataset that is in the page cache."""
    from gpt2lab.data.loading.batches import TrainBatches  # noqa: PLC0415
    from gpt2lab.data.loading.sequences import ConsecutiveWindows  # noqa: PLC0415
    from gpt2lab.data.loading.stream import TokenStream  # noqa: PLC0415
    from gpt2lab.data.manifest import load_manifest  # noqa: PLC0415
    from gpt2lab.tokenizers import load_tokenizer  # noqa: PLC0415

    folder = Path(tempfile.mkdtemp())
    write_corpus(folder / "corpus.jsonl", 4 * 10**6)
    subprocess.run(
        gpt2lab_command(str(folder / "corpus.jsonl"), str(folder), 1), cwd=ROOT, check=True, capture_output=True
    )
    tokenizer = load_tokenizer("gpt2")
    dataset = folder / "corpus" / tokenizer.name
    manifest = load_manifest(dataset, tokenizer)
    stream = TokenStream(dataset, manifest, "train")
    batches = TrainBatches([ConsecutiveWindows(stream, 1024)], batch_size=32, seed=0)
    return lambda: float(sum(batches.batch(step).inputs_BT.size for step in range(200)))


def random_windows(case: Mapping[str, Any]) -> Callable[[], float]:
    """nanoGPT's loader: random places of a memory map."""
    path = Path(tempfile.mkdtemp()) / "train.bin"
    np.random.default_rng(0).integers(50_257, size=10**6, dtype=np.uint16).tofile(path)

    def run() -> float:
        tokens = 0
        for _ in range(200):
            data = np.memmap(path, dtype=np.uint16, mode="r")
            starts = np.random.default_rng(0).integers(len(data) - 1024, size=32)
            inputs = np.stack([data[i : i + 1024].astype(np.int64) for i in starts])
            targets = np.stack([data[i + 1 : i + 1025].astype(np.int64) for i in starts])
            tokens += inputs.size + 0 * targets.size
        return float(tokens)

    return run


WORKERS = {
    "gpt2lab": prepared_by(gpt2lab_command),
    "datasets.map": prepared_by(
        lambda corpus, out, workers: [sys.executable, "-c", DATASETS_MAP, corpus, out, str(workers)]
    ),
    "gpt2lab loader": loader,
    "random windows": random_windows,
}
PAIRS = [
    Pair("prepare 20 MB of JSONL", "gpt2lab", "datasets.map", {"megabytes": 20}, unit="MB", target=3.5, quick=True),
    Pair("batches of 32 x 1024 (ours at least 20 M tokens/s)", "gpt2lab loader", "random windows", {}, quick=True),
]
