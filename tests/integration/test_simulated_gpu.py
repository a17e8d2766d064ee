"""The tests of test_gpu.py on a simulated GPU, so that the code for CUDA runs where there is none."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.simulated_gpu import build_stub, environment

COMPILER = shutil.which("c++") or shutil.which("g++")
SIMULATED = [
    "test_logits_are_those_of_the_cpu",
    "test_tokens_of_recorded_steps_are_those_of_the_cpu[learned]",
    "test_tokens_of_recorded_steps_are_those_of_the_cpu[rope]",
    *(f"test_recorded_steps_compute_what_others_do[{case}]" for case in ("fp32-0.0001", "bf16-0.03", "fp16-0.01")),
    "test_vocabulary_loss_is_that_of_float64[dtype1]",
    *(f"test_the_host_does_not_wait_in_a_step[{precision}]" for precision in ("fp32", "bf16", "fp16")),
    "test_training_goes_as_on_the_cpu[runtime.precision=bf16]",
    "test_training_goes_as_on_the_cpu[runtime.activation_checkpointing=true]",
    "test_training_goes_as_on_the_cpu[optimizer=muon]",
    "test_training_goes_as_on_the_cpu[data.packing=documents-model.n_kv_head=1]",
    "test_resumed_steps_are_those_of_the_straight_run[bf16]",
]
"""without the tests of CUDA's own kernels, compiled code and memory, and without those that run the same code again"""


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")
@pytest.mark.skipif(
    sys.platform != "linux" or torch.version.cuda is not None, reason="for PyTorch's CPU build on Linux"
)
def test_code_for_cuda_computes_what_the_cpu_does(tmp_path):
    tests = Path(__file__).with_name("test_gpu.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", tmp_path / "tests"]
    process = subprocess.run(
        [*command, *(f"{tests}::{name}" for name in SIMULATED)],
        env=environment(build_stub(COMPILER, tmp_path)),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-5000:] + process.stderr[-2000:]
    assert re.search(rf"^{len(SIMULATED)} passed in", process.stdout, re.MULTILINE), process.stdout[-1000:]
