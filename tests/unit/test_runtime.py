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
