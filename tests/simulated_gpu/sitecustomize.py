"""Python imports this at its start where the folder is on PYTHONPATH: every process of a test has the simulated GPU."""

import ctypes
import importlib.util
import os
from pathlib import Path

if stub := os.environ.get("GPT2LAB_CUDA_STUB"):
    # torch asks for hooks of CUDA when it is imported, so the stub must be there before
    (torch_folder,) = importlib.util.find_spec("torch").submodule_search_locations
    for library in (*Path(torch_folder, "lib").glob("libgomp*"), "libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(Path(torch_folder, "lib", library)), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(stub, ctypes.RTLD_GLOBAL)

    import tests.simulated_gpu.device  # noqa: F401 - it replaces parts of torch
