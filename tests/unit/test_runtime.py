"""Device and precision: what is asked for is there, or the line says what is."""

import pytest
import torch

from gpt2lab.config import RuntimeConfig, UserError
from gpt2lab.runtime import open_runtime


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


def gpus(monkeypatch, count):
    """Pretend that the machine has so many GPUs; the indices bound are returned."""
    bound = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: bound.append(torch.device(device).index))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
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


def test_cuda_sums_bf16_products_in_float32(monkeypatch):
    gpus(monkeypatch, 1)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
    open_runtime(RuntimeConfig(device="cuda"))
    assert torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction is False


def test_deterministic_kernels_are_on_only_when_asked_for():
    try:
        for asked in (True, False):
            open_runtime(RuntimeConfig(device="cpu", deterministic=asked))
            assert torch.are_deterministic_algorithms_enabled() is asked
    finally:
        torch.use_deterministic_algorithms(False)
