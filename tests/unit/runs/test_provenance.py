"""gpt2lab.runs.provenance: the commit is that of gpt2lab's own checkout, or none."""

import subprocess

from gpt2lab.runs import provenance
from gpt2lab.runs.provenance import Hardware, environment

CPU = Hardware("cpu", 1)
KEYS = ("git_commit", "git_changed_files", "git_diff")


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=a@b"]
    result = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return result.stdout.strip()


def test_git_tells_of_the_checkout_and_of_no_project_around_it(monkeypatch, tmp_path):
    packages = tmp_path / ".venv" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "notes.txt")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "notes.txt").write_text("two\n")
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path.resolve())
    found = environment(None, CPU)
    assert found["git_commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert "notes.txt" in found["git_changed_files"]
    assert "+two" in found["git_diff"]
    monkeypatch.setattr(provenance, "CHECKOUT", packages.resolve())  # gpt2lab is installed within that project
    found = environment(None, CPU)
    assert [found[key] for key in KEYS] == [None] * 3
