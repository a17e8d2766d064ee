"""Preparing as it is done at length: killed at any moment and started again, by many workers, within its memory."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from gpt2lab.config import (
    JsonlFilesConfig,
    PrepareConfig,
    PythonStdlibConfig,
    StateOfTheUnionConfig,
    TextFilesConfig,
    to_dict,
)
from gpt2lab.data import Prefetcher, dataset_folder, prepare, train_batches
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.tokenizers.bytes import BytesTokenizer
from tests.integration.conftest import ONE_THREAD, ROOT

PROGRAM = """
import sys
from gpt2lab.config import DataConfig, PrepareConfig, from_dict
from gpt2lab.data import prepare
from gpt2lab.tokenizers import load_tokenizer
sys.modules["gpt2lab.data.preparation.build"].SAVE_SECONDS = {save_seconds}
prepare(from_dict(DataConfig, {data}), PrepareConfig(num_workers={num_workers}), load_tokenizer("gpt2"))
"""


def start(data, num_workers, save_seconds=0.05):
    """Prepare ``data`` in a process of its own."""
    program = PROGRAM.format(data=to_dict(data), num_workers=num_workers, save_seconds=save_seconds)
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=ONE_THREAD, stderr=subprocess.PIPE)


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_killed_at_five_moments_gives_the_same_bytes(tmp_path):
    straight, broken = (PythonStdlibConfig(root=str(tmp_path / name)) for name in ("straight", "broken"))
    gpt2 = load_tokenizer("gpt2")
    prepare(straight, PrepareConfig(num_workers=2), gpt2)
    moments = random.Random(time.time_ns())
    progress_file = dataset_folder(broken, gpt2).with_name(".gpt2.new") / "progress.json"
    kills = 0
    while not dataset_folder(broken, gpt2).exists():  # the last kill may come when all is done
        before = progress_file.stat().st_mtime_ns if progress_file.exists() else None
        process = start(broken, num_workers=moments.choice((1, 2, 5)))
        while kills < 5 and process.poll() is None:
            if progress_file.exists() and progress_file.stat().st_mtime_ns != before:
                time.sleep(moments.uniform(0, 0.06))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        error = process.communicate()[1]
        assert process.returncode in (0, -signal.SIGKILL), error.decode()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 4
    assert hashes(dataset_folder(broken, gpt2)) == hashes(dataset_folder(straight, gpt2))
    assert [path.name for path in dataset_folder(broken, gpt2).parent.iterdir()] == ["gpt2"]


def test_ray_gives_the_same_bytes(tmp_path):
    gpt2 = load_tokenizer("gpt2")
    (tmp_path / "texts").mkdir()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:60]:
        (tmp_path / "texts" / path.name).write_bytes(path.read_bytes())
    settings = {"files": [f"{tmp_path}/texts/*.py"], "delimiter": None, "val_fraction": 0.2, "deduplicate": True}
    here, cluster = (TextFilesConfig(root=str(tmp_path / name), **settings) for name in ("here", "cluster"))
    prepare(here, PrepareConfig(num_workers=0), gpt2)
    prepare(cluster, PrepareConfig(backend="ray", num_workers=2), gpt2)
    assert hashes(dataset_folder(cluster, gpt2)) == hashes(dataset_folder(here, gpt2))


def test_an_error_on_the_cluster_comes_out_here(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    data = TextFilesConfig(
        delimiter=None, min_document_bytes=0, root=str(tmp_path / "data"), files=[f"{tmp_path}/a.txt"]
    )
    with pytest.raises(RuntimeError, match="no such document"):
        prepare(data, PrepareConfig(backend="ray", num_workers=1), Failing())


class Failing(BytesTokenizer):
    """Fails at once."""

    def encode_array(self, text):
        raise RuntimeError("no such document")


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """20 times as much text takes less than 50 MB more, of the process and of each worker."""
    peaks = []
    for copies in (1, 20):
        folder = tmp_path / str(copies)
        folder.mkdir()
        with (folder / "a.jsonl").open("w") as file:
            for i in range(copies * 1_000):
                file.write(json.dumps({"text": f"{i} " + "some words of a text " * 400}) + "\n")
        data = JsonlFilesConfig(root=str(folder), files=[f"{folder}/a.jsonl"], val_fraction=0.01)
        program = PROGRAM.format(data=to_dict(data), num_workers=2, save_seconds=0.5).replace('"gpt2"', '"bytes"')
        watched = "import resource, subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True); "
        watched += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        command = [sys.executable, "-c", watched, program]
        result = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout))
    assert peaks[1] < peaks[0] + 50 * 1024


def test_the_loader_alone_is_fast_and_its_memory_flat(tmp_path):
    """8 million tokens per second on a busy machine (docs/speed.md: alone); no private memory over 10,000 batches."""
    data = StateOfTheUnionConfig(root=str(tmp_path))
    gpt2 = load_tokenizer("gpt2")
    manifest = prepare(data, PrepareConfig(num_workers=2), gpt2)
    batches = train_batches(data, dataset_folder(data, gpt2), manifest, batch_size=16, sequence_length=1024, seed=0)
    load = Prefetcher(batches.batch)
    for step in range(100):
        load(step)
    before, started = private_memory(), time.perf_counter()
    for step in range(100, 10_100):
        load(step)
    seconds = time.perf_counter() - started
    assert private_memory() < before + 5 * 2**20
    assert 10_000 * 16 * 1024 / seconds > 8e6


def private_memory():
    """Bytes of this process that are no file's pages."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024
