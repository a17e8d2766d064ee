"""A small real corpus (files of Python's own library), and the commands as a user types them."""

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("argparse.py", "typing.py", "tarfile.py", "doctest.py", "inspect.py", "zipfile.py")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
"""tiny models gain nothing from more, and runs beside each other would wait for the same cores"""
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


def run_in(folder, script, *overrides):
    """Run ``python SCRIPT OVERRIDES`` in a folder; it must end well."""
    command = [sys.executable, ROOT / script, *overrides]
    result = subprocess.run(command, cwd=folder, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


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
