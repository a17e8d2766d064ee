"""Preparing as it is done at length: killed at any moment and started again, by many workers, within its memory."""

import hashlib
import random
import signal
import subprocess
import sys
import time

from gpt2lab.config import DataConfig, PrepareConfig, to_dict
from gpt2lab.data import prepare, set_folder
from gpt2lab.tokenizer import load_tokenizer
from tests.integration.conftest import ONE_THREAD, ROOT

PROGRAM = """
import sys
from gpt2lab.config import DataConfig, PrepareConfig, from_dict
from gpt2lab.data import prepare
from gpt2lab.tokenizer import load_tokenizer
sys.modules["gpt2lab.data.prepare"].JOURNAL_SECONDS = {journal_seconds}
prepare(from_dict(DataConfig, {data}), PrepareConfig(num_workers={num_workers}), load_tokenizer("gpt2"))
"""


def start(data, num_workers, journal_seconds=0.05):
    """Prepare ``data`` in a process of its own."""
    program = PROGRAM.format(data=to_dict(data), num_workers=num_workers, journal_seconds=journal_seconds)
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=ONE_THREAD, stderr=subprocess.PIPE)


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_killed_at_ten_moments_gives_the_same_bytes(tmp_path):
    straight, broken = (DataConfig(root=str(tmp_path / name)) for name in ("straight", "broken"))
    gpt2 = load_tokenizer("gpt2")
    prepare(straight, PrepareConfig(num_workers=2), gpt2)
    moments = random.Random(time.time_ns())
    journal = set_folder(broken, gpt2).with_name(".gpt2.new") / "journal.json"
    kills, status = 0, None
    while status != 0:
        before = journal.stat().st_mtime_ns if journal.exists() else None
        process = start(broken, num_workers=moments.choice((1, 2, 5)))
        while kills < 10 and process.poll() is None:
            if journal.exists() and journal.stat().st_mtime_ns != before:
                time.sleep(moments.uniform(0, 0.06))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        error = process.communicate()[1]
        status = process.returncode
        assert status in (0, -signal.SIGKILL), error.decode()
        kills += status == -signal.SIGKILL
    assert kills == 10
    assert hashes(set_folder(broken, gpt2)) == hashes(set_folder(straight, gpt2))
    assert [path.name for path in set_folder(broken, gpt2).parent.iterdir()] == ["gpt2"]
