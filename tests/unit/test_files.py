"""gpt2lab.files: what was there stays whole, and JSON from outside is an object or an error line."""

import subprocess
import sys

import pytest

from gpt2lab.config import UserError
from gpt2lab.files import check_writable, parse_json, write_text

LIMITED = """
import resource, sys
from pathlib import Path
from gpt2lab.config import UserError
from gpt2lab.files import append_text, write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    {write}(Path(sys.argv[1]), "x" * 5000)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("write", ["write_text", "append_text"])
def test_a_file_that_has_no_room_is_what_it_was(tmp_path, write):
    path = tmp_path / "eval.json"
    path.write_text("before")
    command = [sys.executable, "-c", LIMITED.format(write=write), path]
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "eval.json: not written (File too large); it needs 5,000 bytes, the disk has" in line
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_write_text_keeps_a_link_and_the_usual_permissions(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_text(tmp_path / "link", "é")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == "é".encode()
    (tmp_path / "plain").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_write_text_replaces_files_only(tmp_path):
    for place in (tmp_path, "/dev/null"):
        with pytest.raises(UserError, match="is not a file"):
            write_text(tmp_path / place, "text")


def test_check_writable_names_the_key(tmp_path):
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new" / "newer" / "eval.json", "out")
    for place, reason in (
        (tmp_path / "file" / "eval.json", "is a file"),
        ("/proc/x/eval.json", "nothing can be written"),
    ):
        with pytest.raises(UserError, match=rf"^out=.*eval.json: .*{reason}"):
            check_writable(tmp_path / place, "out")


@pytest.mark.parametrize("content", [b"", b"\xff", b"3", b"[1]", b"null", b'{"a":', b"[" * 100_000, b"1" * 5000])
def test_parse_json_says_that_it_is_damaged(tmp_path, content):
    with pytest.raises(UserError, match="x.json: damaged: expected"):
        parse_json(content, tmp_path / "x.json")
