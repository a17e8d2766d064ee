"""A small real corpus (files of Python's own library), and the commands as a user types them."""

import atexit
import functools
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from unittest import mock

import pytest

from gpt2lab.cli.launching import rank_environments

ROOT = Path(__file__).parents[2]
FILES = ("argparse.py", "typing.py", "tarfile.py", "doctest.py", "inspect.py", "zipfile.py")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""of the CPU, also where there is a GPU, whose results are not equal to the last bit; tiny models gain nothing from
more threads, and runs beside each other would wait for the same cores"""
TINY = [
    "data=text_files",
    "data.name=library",
    f"data.files=[{','.join(FILES)}]",
    "tokenizer=bytes",
    "model.n_layer=2",
    "model.n_head=2",
    "model.n_embd=32",
    "model.block_size=64",
    "training.batch_tokens=1024",
    "training.eval_tokens=4096",
    "model=gpt2_nano",
    "optimizer=adamw",
]


@pytest.fixture
def workplace(tmp_path):
    """An empty folder with the corpus in it."""
    copy_corpus(tmp_path)
    return tmp_path


def copy_corpus(folder):
    library = Path(sysconfig.get_path("stdlib"))
    for name in FILES:
        found = library / name
        # zipfile is a package since 3.12
        source = found if found.exists() else library / found.stem / "__init__.py"
        (folder / name).write_bytes(source.read_bytes())


PROCESSES = multiprocessing.get_context("forkserver")
"""Starts processes from one that has imported torch and gpt2lab: imports are two thirds of a run of two steps."""
PROCESSES.set_forkserver_preload(
    ["torch._dynamo", "gpt2lab.cli.main", "gpt2lab.commands.training", "gpt2lab.commands.evaluation"]
)


def run_in(folder, script, *overrides, environment=None):
    """Run ``python SCRIPT OVERRIDES`` in a process and a folder of its own; it must end well."""
    (result,) = run_processes(folder, ROOT / script, *overrides, environment=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def run_ranks(folder, script, number, *overrides):
    """The same in several processes that torch.distributed joins; what the main process printed."""
    results = run_processes(folder, ROOT / script, *overrides, number=number)
    assert all(result.returncode == 0 for result in results), "".join(result.stderr for result in results)
    return results[0]


def run_processes(folder, script, *overrides, number=1, environment=None):
    """Run a script in a number of processes, with the variables by which torch.distributed joins several and others."""
    command = [str(script), *map(str, overrides)]
    with tempfile.TemporaryDirectory() as outputs, mock.patch.dict(os.environ, ONE_THREAD):
        variables = rank_environments(number) if number > 1 else [{}]
        variables = [own | (environment or {}) for own in variables]
        streams = [[Path(outputs, f"{name}{rank}") for name in ("out", "err")] for rank in range(number)]
        processes = [
            PROCESSES.Process(target=run_script, args=(command, folder, *own))
            for own in zip(variables, streams, strict=True)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return [
            subprocess.CompletedProcess(command, process.exitcode, *(path.read_text() for path in own))
            for process, own in zip(processes, streams, strict=True)
        ]


def run_script(command, folder, variables, streams):
    """In the new process: what Python does with ``VARIABLES python COMMAND``, its two streams in files."""
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.update(variables)
    sys.argv = command
    sys.path[0] = str(Path(command[0]).parent)
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()


@pytest.fixture
def run(workplace):
    """``run_in`` the workplace."""
    return functools.partial(run_in, workplace)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """A folder with the prepared corpus and a run of two steps, runs/trained; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    copy_corpus(folder)
    run_in(folder, "train.py", *TINY, "run_dir=runs/trained", "training.max_steps=2")
    return folder


@pytest.fixture
def trained(trained_once, workplace):
    """The same in the workplace, to do anything with."""
    shutil.copytree(trained_once, workplace, symlinks=True, dirs_exist_ok=True)
