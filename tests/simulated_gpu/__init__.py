"""A CUDA device without a GPU: its tensors are in host memory, and its kernels are the CPU's.

What it shows: gpt2lab's own code for CUDA runs and computes what it does on a CPU; no operation mixes tensors of both
devices; nothing makes the host wait where ``torch.cuda.set_sync_debug_mode("error")`` forbids it; a recorded graph
holds no host value and no host copy. What it does not: anything about CUDA's kernels, memory, streams or speed, nor
``torch.compile``.

- ``cuda_stub.cpp`` tells PyTorch's CPU build that there is a GPU,
- ``device.py`` computes the operations on its tensors and stands in for ``torch.cuda``,
- ``sitecustomize.py`` loads both in each process whose environment is ``environment(stub)``.
"""

import importlib.util
import os
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent


def build_stub(compiler: str, folder: Path) -> Path:
    """Compile the stub against the installed PyTorch."""
    (torch_folder,) = importlib.util.find_spec("torch").submodule_search_locations
    stub = folder / "cuda_stub.so"
    paths = [f"-I{torch_folder}/include", f"-L{torch_folder}/lib", "-lc10", "-ltorch_cpu"]
    flags = ["-std=c++20", "-O0", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, FOLDER / "cuda_stub.cpp", "-o", stub, *paths], check=True, timeout=300)
    return stub


def environment(stub: Path) -> dict[str, str]:
    """The environment of a process that has the simulated GPU."""
    root = FOLDER.parents[1]
    paths = [FOLDER, root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"GPT2LAB_CUDA_STUB": str(stub), "PYTHONPATH": os.pathsep.join(map(str, paths))}
