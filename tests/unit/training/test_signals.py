"""What a stopped run says."""

import shlex
import signal
from pathlib import Path

from gpt2lab.training.signals import stopped_error


def test_stopped_run_prints_a_command_that_can_be_typed():
    error = stopped_error(signal.SIGTERM, 3, Path("runs/mein lauf, 2"))
    command = str(error).partition("to continue, type ")[2]
    assert shlex.split(command) == ["gpt2lab", "train", "from=runs/mein lauf, 2", "resume=auto"]
