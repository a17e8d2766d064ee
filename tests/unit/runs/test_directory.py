"""gpt2lab.runs.directory: one process at a time, and records that a resume keeps."""

import subprocess
import sys

import pytest
import yaml

from gpt2lab.config import UserError
from gpt2lab.runs import Hardware, open_run_dir

CPU = Hardware("cpu", 1)
HOLD = """
import sys
from pathlib import Path
from gpt2lab.runs import Hardware, open_run_dir
open_run_dir(Path(sys.argv[1]), {}, None, Hardware("cpu", 1))
print("held", flush=True)
sys.stdin.read()
"""


def test_open_run_dir_refuses_a_directory_that_another_process_has(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"run_dir=.*run: another process is at work there"):
            open_run_dir(tmp_path / "run", {}, None, CPU)
        other.kill()
    for _ in range(2):  # the process that has it may open it again
        open_run_dir(tmp_path / "run", {}, None, CPU)


def test_open_run_dir_keeps_the_records_of_the_first_start(tmp_path):
    for seed in (1, 2, 3):
        command = [sys.executable, "-c", HOLD.replace("{}", f"{{'seed': {seed}}}"), tmp_path / "run"]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True)
    seeds = [yaml.safe_load((tmp_path / "run" / f"config{n}.yaml").read_text())["seed"] for n in ("", ".2", ".3")]
    assert seeds == [1, 2, 3]
