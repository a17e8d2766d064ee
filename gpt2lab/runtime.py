"""Device, precision and memory of this process, what to type where memory runs out, and seeds of random streams."""

import contextlib
import ctypes
import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gpt2lab.config import RuntimeConfig, UserError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """Device and precision of a run, decided once."""

    device: torch.device
    precision: str
    """fp32 | bf16 | fp16"""
    tf32: bool = False
    """factors of float32 products are rounded to 10 bits of mantissa"""

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the matrix products and of their results, such as cached keys and values."""
        return DTYPES[self.precision]

    @property
    def device_name(self) -> str:
        """``cpu``, or the GPU's name."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    @property
    def cpu_threads(self) -> int:
        """Threads that one operation on the CPU uses."""
        return torch.get_num_threads()

    def autocast(self) -> AbstractContextManager[object]:
        """Matrix products in the run's precision; weights, norms and sums stay float32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def stream_seed(purpose: str, *parts: int | str) -> int:
    """A 63-bit seed for one use of randomness, so that no two purposes, seeds or steps share a stream."""
    digest = hashlib.sha256(" ".join([purpose, *map(str, parts)]).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def open_runtime(config: RuntimeConfig, local_rank: int = 0, local_size: int = 1) -> Runtime:
    """Resolve ``auto``, bind this process to its GPU, and set the process-wide switches of PyTorch.

    Args:
        config: device and precision as configured.
        local_rank: rank of this process on its machine; with device ``cuda`` it has the GPU of that index, or the only
            one that it sees, if SLURM gave each process its own.
        local_size: processes of the run on this machine.

    Raises:
        UserError: the device is not there, cannot work in the precision, or there are fewer GPUs than processes.
    """
    device = _find_device(config.device)
    if device.type == "cuda":
        device = _own_gpu(config, device, local_rank, local_size)
    fast_bf16 = _multiplies_bf16(device)
    if config.precision == "bf16" and device.type == "cuda" and not fast_bf16:
        raise UserError(
            f"runtime.precision=bf16: {torch.cuda.get_device_name(device)} has no bf16; expected fp32 or fp16; try "
            "runtime.precision=fp32"
        )
    precision = ("bf16" if fast_bf16 else "fp32") if config.precision == "auto" else config.precision
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)  # an earlier run in this Python process may have needed more
        torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
        # sums of 16-bit products are kept in float32 across the parts of a split matrix product, as everywhere else
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    if device.type == "cpu":
        _configure_malloc(_RETURN_FREED if config.parallel == "fsdp" else _KEEP_FREED)
    _use_deterministic_kernels(enabled=config.deterministic)
    return Runtime(device, precision, tf32=config.tf32 and device.type == "cuda")


def _own_gpu(config: RuntimeConfig, device: torch.device, local_rank: int, local_size: int) -> torch.device:
    """The GPU of this process."""
    if local_size == 1:
        return torch.device("cuda", device.index or 0)
    if config.device.startswith("cuda:"):
        raise UserError(
            f"runtime.device={config.device}: {local_size} processes cannot share one GPU; expected "
            "runtime.device=cuda, which gives each process the GPU of its number"
        )
    if (gpus := torch.cuda.device_count()) < local_size:
        if gpus == 1 and _is_slurm_task_with_its_gpu(local_rank, local_size):
            return torch.device("cuda", 0)
        raise UserError(
            f"runtime.num_processes={local_size}: this machine has {gpus} GPUs, and each process needs one; expected "
            f"at most {gpus}; try runtime.num_processes={gpus} (under torchrun --nproc-per-node={gpus}) or "
            "runtime.device=cpu"
        )
    return torch.device("cuda", local_rank)


def _is_slurm_task_with_its_gpu(local_rank: int, local_size: int) -> bool:
    """Whether the one GPU that this process sees is its own, as under ``srun --gpus-per-task=1``.

    It is if SLURM started the process as a task and gave the tasks on this machine a GPU each. Processes that torchrun
    or gpt2lab started within one task share its GPU, and so do the tasks of a job with fewer GPUs. SLURM's variables
    are described in srun(1).
    """
    names = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_GPUS_PER_TASK", "SLURM_GPUS_ON_NODE")
    world_size, tasks, local_id, per_task, on_machine = (os.environ.get(name, "") for name in names)
    if not tasks or tasks != world_size or local_id != str(local_rank):
        return False
    return per_task.rpartition(":")[2] == "1" or (on_machine.isdigit() and int(on_machine) >= local_size)  # a100:1


def _use_deterministic_kernels(*, enabled: bool) -> None:
    """Switch PyTorch to kernels that are bitwise reproducible: on a GPU attention's backward is not by default."""
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when its first handle is made
    if enabled != torch.are_deterministic_algorithms_enabled():  # the call imports torch's compiler, for a second
        torch.use_deterministic_algorithms(enabled)
    torch.backends.cudnn.benchmark = False


def _find_device(name: str) -> torch.device:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available = ", ".join(kind for kind, is_there in there.items() if is_there)
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "mps" if there["mps"] else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"runtime.device={name}: expected auto, cpu, cuda, cuda:N or mps") from None
    in_range = device.type != "cuda" or (device.index or 0) < torch.cuda.device_count()
    if not there.get(device.type, False) or not in_range:
        raise UserError(f"runtime.device={name} is not there: this machine has {available}; type runtime.device=auto")
    return device


def _multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware has bf16 products; without them the format is emulated, slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # since Ampere
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class NotEnoughMemoryError(UserError):
    """A tensor did not fit into the memory of the device or of the host."""


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""in messages of CUDA and MPS, of the host, and of cuBLAS, which allocates for itself"""


@contextlib.contextmanager
def explaining_out_of_memory(what: str, advice: str) -> Iterator[None]:
    """Turn an out-of-memory error of the block, of a GPU or of the host, into a ``NotEnoughMemoryError``.

    Args:
        what: the work that needed the memory, as in "out of memory in <what>".
        advice: what to type.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
        raise NotEnoughMemoryError(f"out of memory in {what}: {advice}") from error


def smaller_batch(key: str, size: int) -> str:
    """What to type when a batch of ``size``, the value of ``key``, does not fit: the next smaller one, a divisor."""
    smaller = divisor_below(size, size)
    return f"type {key}={smaller}" if smaller else "expected a device with more memory; try runtime.device=cpu"


def divisor_below(bound: int, number: int) -> int | None:
    """The largest divisor of ``number`` below ``bound``; None: there is none."""
    return next((n for n in range(bound - 1, 0, -1) if number % n == 0), None)


class _MallocThresholds(NamedTuple):
    """Bytes."""

    mmap: int
    """a larger block is a mapping of its own, whose pages the kernel has to clear"""
    trim: int
    """more free memory than this at the end of the heap is returned to the kernel"""


_KEEP_FREED = _MallocThresholds(mmap=2**30, trim=2**31 - 1)
"""Every step frees and asks again for the same large tensors. By default each is a fresh mapping whose pages the kernel
must clear, which took about as long as the arithmetic of a small model's loss (benchmarks/results/)."""
_RETURN_FREED = _MallocThresholds(mmap=2**20, trim=2**17)
"""For FSDP, which gathers and frees weights of many sizes: kept free blocks do not fit the next ones, and the process
would be larger than one with the whole model (docs/commands.md). glibc's own rule raises its threshold with each block
that is freed, up to 32 MiB, so it keeps them, too."""


def _configure_malloc(thresholds: _MallocThresholds) -> None:
    """Set what malloc does with freed blocks, on Linux with glibc."""
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        # older versions refuse a large threshold; setting the other alone would make matters worse
        if libc.mallopt(_M_MMAP_THRESHOLD, thresholds.mmap):
            libc.mallopt(_M_TRIM_THRESHOLD, thresholds.trim)
