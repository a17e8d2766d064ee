"""explain: where the page may be written, and what is left when it cannot be."""

import errno

import pytest

from gpt2lab import files
from gpt2lab.commands import explain
from gpt2lab.config import ExplainJob, RuntimeConfig, UserError


@pytest.mark.parametrize(
    ("out", "reason"),
    [("file/page.html", "file is a file"), ("folder.html", r"is not a file.*try out=\S*explain.html")],
)
def test_where_no_page_can_be_is_an_error_before_the_work(out, reason, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UserError, match=rf"^out=\S*{out}: .*{reason}"):
        explain(ExplainJob(checkpoint="nowhere", out=str(tmp_path / out)))


def test_the_page_before_stays_where_the_disk_is_full(folder, tmp_path, monkeypatch):
    def full_disk(path, content):
        path.write_bytes(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    page = tmp_path / "page.html"
    job = ExplainJob(
        checkpoint=str(folder), prompt="the fox", out=str(page), plots=True, runtime=RuntimeConfig(device="cpu")
    )
    result = explain(job)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {page, *result.plots}
    monkeypatch.setattr(files, "write_synced", full_disk)
    with pytest.raises(UserError, match=r"page\.html: not written \(No space left on device\)"):
        explain(job)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
