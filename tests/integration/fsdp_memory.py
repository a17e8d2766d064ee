"""Resident memory of each process of a run, by phase.

    torchrun --standalone --nproc-per-node=2 tests/integration/fsdp_memory.py KEY=VALUE ... runtime.parallel=ddp|fsdp

The peak is the kernel's (VmHWM), which is set back after each phase. Subtract that of a tiny model: it is what Python
and the libraries take. Checkpoints are left out: rank 0 gathers the state in its host's memory to write one.
"""

import atexit
import collections
import ctypes
import os
import re
import sys
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gpt2lab.cli.main import run_command
from gpt2lab.training.trainer import Trainer

MB = 10**6
peaks: dict[str, tuple[int, int]] = collections.defaultdict(lambda: (0, 0))


class MallocInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    NAMES = (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )  # fmt: skip
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES]


def allocated() -> int:
    """Bytes that the process has allocated now and not freed, whether or not Python sees them."""
    library = ctypes.CDLL("libc.so.6")
    library.mallinfo2.restype = MallocInfo
    info = library.mallinfo2()
    return info.hblkhd + info.uordblks


def end_of_phase(name: str) -> None:
    """Record the peak since the last phase and what is allocated, and set the peak back."""
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    peaks[name] = tuple(map(max, peaks[name], (peak, allocated())))
    Path("/proc/self/clear_refs").write_text("5")


def report() -> None:
    """Print the peaks of this process on standard error."""
    shown = ", ".join(f"{name} {peak // MB} ({held // MB})" for name, (peak, held) in peaks.items())
    print(f"rank {os.environ['RANK']}, MB resident (allocated at the end): {shown}", file=sys.stderr, flush=True)


def validate_alone(trainer: Trainer, model: object, validate=Trainer._validate) -> object:
    """Validate, as a phase of its own."""
    end_of_phase("after the step")
    result = validate(trainer, model)
    end_of_phase("validation")
    return result


if __name__ == "__main__":
    Trainer._validate = validate_alone
    Trainer._save = lambda trainer, *, best: None
    register_optimizer_step_pre_hook(lambda *_: end_of_phase("forward and backward"))
    register_optimizer_step_post_hook(lambda *_: end_of_phase("optimizer"))
    atexit.register(report)
    run_command("train")
