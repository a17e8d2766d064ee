"""Line breaks in settings."""

import pytest

from gpt2lab.config.escapes import escape, unescape


@pytest.mark.parametrize(
    ("typed", "text"), [(r"\n", "\n"), (r"\r\n\t", "\r\n\t"), (r"\\n", r"\n"), (r"a\\\n", "a\\\n"), ("日", "日")]
)
def test_escape_is_the_inverse_of_unescape(typed, text):
    assert (unescape(typed), escape(text)) == (text, typed)


def test_other_backslashes_and_real_line_breaks_stay():
    assert unescape("\\section\n\\") == "\\section\n\\"
