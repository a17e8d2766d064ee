"""How long a command takes to answer, against the time of ``import torch``."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.harness import ROOT, Pair, Worker


def command(*arguments: str) -> Worker:
    """Run Python with these arguments, from start to end."""

    def prepare(case: Mapping[str, Any]) -> Callable[[], float]:
        def run() -> float:
            subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
            return 1

        return run

    return prepare


WORKERS = {
    "train.py --help": command("train.py", "--help"),
    "train.py --cfg job": command("train.py", "--cfg", "job"),
    "import torch": command("-c", "import torch"),
}
PAIRS = [
    Pair("start-up", name, "import torch", {}, unit="runs", target=1 / 1.5, quick=True)
    for name in ("train.py --help", "train.py --cfg job")
]
