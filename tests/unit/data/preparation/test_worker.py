"""gpt2lab.data.preparation.worker as a program of its own."""

import pickle
import subprocess
import sys


def test_worker_whose_parent_is_killed_while_it_sends_says_nothing():
    sent = pickle.dumps("a tokenizer") + pickle.dumps("a chunk")[:-5]
    command = [sys.executable, "-m", "gpt2lab.data.preparation.worker"]
    assert subprocess.run(command, input=sent, capture_output=True, check=True).stderr == b""
