"""gpt2lab.runs.provenance: the commit is that of gpt2lab's own checkout, or none."""

import subprocess

from gpt2lab.runs import provenance
from gpt2lab.runs.provenance import LONGEST_DIFF, Hardware, environment

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


def test_changed_code_is_kept_whole_beside_any_other_change_and_with_new_modules(monkeypatch, tmp_path):
    (tmp_path / "gpt2lab").mkdir()
    for name in ("experiments.html", "gpt2lab/model.py"):
        (tmp_path / name).write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path.resolve())
    assert environment(None, CPU)["git_diff"] == ""
    (tmp_path / "experiments.html").write_text("two " * LONGEST_DIFF)
    states = [environment(None, CPU)["git_diff"]]
    for name in ("gpt2lab/model.py", "gpt2lab/my_norm.py", "analysis.py"):
        for text in ("two\n", "three\n"):
            (tmp_path / name).write_text(text)
            states.append(environment(None, CPU)["git_diff"])
    assert len(set(states)) == 5
    assert states[4] == states[5] == states[6]  # a new file outside the package changes nothing of a run
    assert states[0].endswith("characters left out]")
    assert len(states[0]) < 1.1 * LONGEST_DIFF
    assert states[6].startswith("diff --git a/gpt2lab/model.py b/gpt2lab/model.py")
    assert "diff --git a/gpt2lab/my_norm.py b/gpt2lab/my_norm.py\nnew file\n+three\n" in states[6]
