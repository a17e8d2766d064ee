"""gpt2lab.compose.open_run_dir: one process at a time."""

import subprocess
import sys

import pytest

from gpt2lab.cli.compose import compose_config, open_run_dir
from gpt2lab.config import UserError

HOLD = """
import sys
from pathlib import Path
from gpt2lab.cli.compose import compose_config, open_run_dir
open_run_dir(Path(sys.argv[1]), compose_config("train"))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_folder_is_one_process_s(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"run_dir=.*run: another process is training there"):
            open_run_dir(tmp_path / "run", compose_config("train"))
        other.kill()
    open_run_dir(tmp_path / "run", compose_config("train"))
