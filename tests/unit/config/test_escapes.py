"""Line breaks and the home folder in settings."""

import pytest

from gpt2lab.config import TextFilesConfig
from gpt2lab.config.escapes import escape, expand_home, unescape


@pytest.mark.parametrize(
    ("typed", "text"), [(r"\n", "\n"), (r"\r\n\t", "\r\n\t"), (r"\\n", r"\n"), (r"a\\\n", "a\\\n"), ("日", "日")]
)
def test_escape_is_the_inverse_of_unescape(typed, text):
    assert (unescape(typed), escape(text)) == (text, typed)


def test_other_backslashes_and_real_line_breaks_stay():
    assert unescape("\\section\n\\") == "\\section\n\\"


def test_home_folder_of_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    names = ["~/data", "~", "data/~", "~no such user.txt"]
    assert [expand_home(name) for name in names] == ["/home/me/data", "/home/me", "data/~", "~no such user.txt"]
    assert TextFilesConfig(root="~/data").root == "/home/me/data"
