"""gpt2lab.locks: processes that are started at the same time, and folders that are removed while others wait."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from gpt2lab.config import UserError
from gpt2lab.locks import locked, locked_when_free, try_lock

COUNT_UP = """
import sys, time
from pathlib import Path
from gpt2lab.locks import locked_when_free
folder, number = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(20):
    with locked_when_free(folder, "waiting"):
        value = int(number.read_text())
        time.sleep(0.002)
        number.write_text(str(value + 1))
"""


def test_locked_refuses_a_second_one_and_ends(tmp_path):
    with locked(tmp_path, "busy"), pytest.raises(UserError, match="^busy$"), locked(tmp_path, "busy"):
        pass
    assert try_lock(tmp_path) is not None


def test_processes_take_turns(tmp_path):
    number = tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", COUNT_UP, str(tmp_path / "lock"), str(number)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert number.read_text() == "60"
    assert not (tmp_path / "lock").exists()


def test_lock_that_was_waited_for_is_on_the_folder_that_is_there(tmp_path, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "new" / "folder"

    def wait_for_it():
        with locked_when_free(folder, "100 % busy"):
            (folder / "file").touch()

    waiting = threading.Thread(target=wait_for_it)
    with locked_when_free(folder, "not logged"):
        waiting.start()
        while not caplog.text:
            time.sleep(0.01)
    waiting.join(timeout=60)  # the first lock has removed the folder, which was empty
    assert [file.name for file in folder.iterdir()] == ["file"]
    assert caplog.messages == ["100 % busy"]


def test_a_file_or_dead_link_in_the_way_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError), locked_when_free(tmp_path / name, "waiting"):
            pass


def test_a_dead_link_above_the_folder_is_an_error(tmp_path):
    (tmp_path / "data").symlink_to(tmp_path / "not_mounted")
    with pytest.raises(FileExistsError), locked_when_free(tmp_path / "data" / "name", "waiting"):
        pass


def test_a_file_system_without_locks_is_written_to_all_the_same(tmp_path, monkeypatch, caplog):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked_when_free(tmp_path / "folder", "waiting"):
        (tmp_path / "folder" / "result").touch()
    with locked(tmp_path, "busy"):
        (tmp_path / "result").touch()
    assert [message.partition(" (")[0] for message in caplog.messages] == [
        f"{folder}: no lock on this file system" for folder in (tmp_path / "folder", tmp_path)
    ]
