"""Device and precision: what is asked for is there, or the line says what is."""

import pytest
import torch

from gpt2lab.config import RuntimeConfig, UserError
from gpt2lab.runtime import NotEnoughMemoryError, explaining_out_of_memory, open_runtime, smaller_batch


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:99", "meta"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(UserError, match=f"runtime.device={device}"):
        open_runtime(RuntimeConfig(device=device))


@pytest.mark.parametrize(("there", "device"), [(False, "cuda"), (False, "cuda:0"), (True, "cuda:1"), (True, "cuda:99")])
def test_a_gpu_that_is_not_there(monkeypatch, there, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(there))
    line = f"^runtime.device={device} is not there: this machine has cpu.*type runtime.device=auto$"
    with pytest.raises(UserError, match=line):
        open_runtime(RuntimeConfig(device=device))


def test_precision_decides_the_format_of_matrix_products():
    square = torch.ones(2, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with open_runtime(RuntimeConfig(device="cpu", precision=precision)).autocast():
            assert (square @ square).dtype == dtype


def test_auto_takes_bf16_only_where_the_cpu_multiplies_it(monkeypatch):
    for capabilities, precision in (
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"avx2": True}, "fp32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert open_runtime(RuntimeConfig(device="cpu")).precision == precision


SLURM = ("SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_GPUS_PER_TASK", "SLURM_GPUS_ON_NODE")


def gpus(monkeypatch, count):
    """Pretend that the machine has so many GPUs, and no SLURM; the indices bound are returned."""
    bound = []
    for name in [*SLURM, "WORLD_SIZE"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: bound.append(torch.device(device).index))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    return bound


def test_each_process_is_bound_to_its_own_gpu(monkeypatch):
    bound = gpus(monkeypatch, 2)
    for rank in (0, 1):
        assert open_runtime(RuntimeConfig(device="cuda"), rank, 2).device == torch.device("cuda", rank)
    assert bound == [0, 1]


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_fewer_gpus_than_processes_are_a_user_error(monkeypatch, device):
    bound = gpus(monkeypatch, 1)
    line = "^runtime.num_processes=2: this machine has 1 GPUs.*try runtime.num_processes=1 .*runtime.device=cpu$"
    with pytest.raises(UserError, match=line):
        open_runtime(RuntimeConfig(device=device), 1, 2)
    assert not bound


TASK = {"WORLD_SIZE": "8", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "3"}
"""of local rank 3 on one of two machines with four tasks each"""


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({"SLURM_GPUS_PER_TASK": "1"}, True),
        ({"SLURM_GPUS_PER_TASK": "a100:1"}, True),
        ({"SLURM_GPUS_ON_NODE": "4"}, True),
        ({}, False),
        ({"SLURM_GPUS_ON_NODE": "1"}, False),  # --gres=gpu:1: four tasks see the same GPU
        ({"SLURM_GPUS_PER_TASK": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0"}, False),  # torchrun in a task
        ({"SLURM_GPUS_PER_TASK": "1", "SLURM_LOCALID": "1"}, False),  # one of four such runs, by chance of eight
        ({"SLURM_GPUS_PER_TASK": "1", "SLURM_STEP_NUM_TASKS": ""}, False),  # in a shell of salloc
    ],
)
def test_slurm_may_have_given_each_process_its_gpu(monkeypatch, changes, own):
    bound = gpus(monkeypatch, 1)
    for name, value in (TASK | changes).items():
        monkeypatch.setenv(name, value)
    if own:
        assert open_runtime(RuntimeConfig(device="cuda"), 3, 4).device == torch.device("cuda", 0)
        assert bound == [0]
    else:
        with pytest.raises(UserError, match="^runtime.num_processes=4: this machine has 1 GPUs"):
            open_runtime(RuntimeConfig(device="cuda"), 3, 4)
        assert not bound


def test_peak_memory_begins_with_the_run(monkeypatch):
    """A second run in one Python process does not have the first one's peak."""
    events = gpus(monkeypatch, 2)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: events.append(f"reset {device}"))
    for rank in (0, 1):
        open_runtime(RuntimeConfig(device="cuda"), rank, 2)
    assert events == [0, "reset cuda:0", 1, "reset cuda:1"]  # after binding, which begins CUDA


def test_processes_cannot_share_a_gpu(monkeypatch):
    bound = gpus(monkeypatch, 4)
    with pytest.raises(UserError, match="^runtime.device=cuda:1: 2 processes cannot share one GPU"):
        open_runtime(RuntimeConfig(device="cuda:1"), 0, 2)
    with pytest.raises(UserError, match="^runtime.device=cuda:1: 2 processes cannot share one GPU"):
        RuntimeConfig(device="cuda:1", num_processes=2)
    assert open_runtime(RuntimeConfig(device="cuda:1"), 0, 1).device == torch.device("cuda", 1)
    assert bound == [1]


def test_a_run_on_the_cpu_never_touches_cuda(monkeypatch):
    gpus(monkeypatch, 1)

    def touched(*_):
        raise AssertionError("CUDA was touched")

    for name in ("set_device", "init", "current_device", "get_device_properties"):
        monkeypatch.setattr(torch.cuda, name, touched)
    for rank in (0, 1):
        assert open_runtime(RuntimeConfig(device="cpu"), rank, 2).device.type == "cpu"


def test_bf16_is_of_the_gpu_that_was_chosen(monkeypatch):
    """Not of the current one, which is the first until the process is bound to its own."""
    gpus(monkeypatch, 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: ["A100", "V100"][device.index])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: [(8, 0), (7, 0)][device.index])
    found = [open_runtime(RuntimeConfig(device=device)).precision for device in ("cuda:0", "cuda:1")]
    assert found == ["bf16", "fp32"]
    with pytest.raises(UserError, match=r"^runtime\.precision=bf16: V100 has no bf16"):
        open_runtime(RuntimeConfig(device="cuda:1", precision="bf16"))


def test_cuda_sums_16_bit_products_in_float32(monkeypatch):
    gpus(monkeypatch, 1)
    matmul = torch.backends.cuda.matmul
    matmul.allow_bf16_reduced_precision_reduction = matmul.allow_fp16_reduced_precision_reduction = True
    open_runtime(RuntimeConfig(device="cuda"))
    assert matmul.allow_bf16_reduced_precision_reduction is False
    assert matmul.allow_fp16_reduced_precision_reduction is False


def test_tf32_is_of_a_gpu_that_was_asked_for_it(monkeypatch):
    gpus(monkeypatch, 1)
    try:
        settings = [("cuda", True), ("cuda", False), ("cpu", True)]
        assert [open_runtime(RuntimeConfig(device=name, tf32=tf32)).tf32 for name, tf32 in settings] == [1, 0, 0]
    finally:
        torch.set_float32_matmul_precision("highest")


def test_deterministic_kernels_are_on_only_when_asked_for():
    try:
        for asked in (True, False):
            open_runtime(RuntimeConfig(device="cpu", deterministic=asked))
            assert torch.are_deterministic_algorithms_enabled() is asked
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 4.00 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("expected all tensors to be on the same device"),
    ],
)
def test_out_of_memory_is_explained(error):
    expected = RuntimeError if "same device" in str(error) else NotEnoughMemoryError
    line = str(error) if expected is RuntimeError else "^out of memory in the work: type less$"
    with pytest.raises(expected, match=line), explaining_out_of_memory("the work", "type less"):
        raise error


def test_smaller_batches_divide_the_batch():
    advice = [smaller_batch("key", size) for size in (8, 12, 9, 1)]
    assert advice[:3] == ["type key=4", "type key=6", "type key=3"]
    assert advice[3] == "expected a device with more memory; try runtime.device=cpu"
