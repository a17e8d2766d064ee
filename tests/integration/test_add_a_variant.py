"""docs/add_a_variant.md, typed in: its blocks are applied to a copy of the repository, which then trains and tests."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.integration.conftest import ONE_THREAD, ROOT, TINY, copy_corpus

BLOCKS = re.compile(r"<!-- (append|replace|create): (\S+) -->\n((?:```\w*\n.*?\n```\n)+)", re.DOTALL)
FENCE = re.compile(r"```\w*\n(.*?\n)```\n", re.DOTALL)


def read_blocks(document):
    """(what to do, the file, its blocks of text), in the order of the page."""
    return [(action, path, FENCE.findall(fences)) for action, path, fences in BLOCKS.findall(document)]


def apply_block(root, action, path, texts):
    file = root / path
    if action == "create":
        assert not file.exists(), f"{path} already exists"
        (content,) = texts
    elif action == "append":
        (text,) = texts
        content = file.read_text() + text
    else:
        old, new = texts
        before = file.read_text()
        assert before.count(old) == 1, f"{path} does not hold this once:\n{old}"
        content = before.replace(old, new)
    file.write_text(content)


@pytest.fixture
def copy(tmp_path):
    """The tracked files as they are now."""
    root = tmp_path / "copy"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    return root


def run_copy(root, *arguments):
    """Python in the copy, which must find the copy's gpt2lab and not the installed one."""
    environment = ONE_THREAD | {"PYTHONPATH": str(root)}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_page_works_as_it_is_written(copy):
    document = (ROOT / "docs" / "add_a_variant.md").read_text()
    blocks = read_blocks(document)
    assert document.count("<!-- ") == len(blocks)
    name = next(path for action, path, _ in blocks if action == "create").split("/")[-1].removesuffix(".yaml")
    for block in blocks:
        apply_block(copy, *block)

    copy_corpus(copy)
    run_copy(copy, "train.py", *TINY, f"model/norm={name}", "training.max_steps=2", "run_dir=runs/page")
    assert json.loads((copy / "runs/page/metrics.jsonl").read_text().splitlines()[-1])["step"] == 2
    inside = run_copy(
        copy,
        "-c",
        "from gpt2lab.weights import load_pretrained; m = load_pretrained('runs/page'); "
        "print(*[f'{n}={p.mean().item():.2f}' for n, p in m.named_parameters() if 'alpha' in n])",
    )
    # two of each of the two blocks, and the last; after two steps still near where they began
    assert len(re.findall(r"norm_\w\.alpha=0\.(?:49|50|51)", inside)) == 5

    tested = run_copy(
        copy,
        "-m",
        "pytest",
        "-rA",
        "-k",
        name,
        "tests/unit/model/test_gpt.py",
        "tests/unit/model/test_norms.py",
        "tests/unit/explain/test_trace.py",
    )
    passed = [line for line in tested.splitlines() if line.startswith("PASSED")]
    assert sum(f"-{name}-" in line for line in passed) >= 25  # with every position scheme and MLP
    assert any(f"test_formula[{name}-" in line for line in passed)


def test_a_class_in_a_file_of_the_users_trains_and_is_loaded_again(workplace):
    page = read_blocks((ROOT / "docs" / "add_a_variant.md").read_text())
    (own,) = [block for block in page if block[:2] == ("create", "my_variants.py")]
    (workplace / "elsewhere").mkdir()
    apply_block(workplace / "elsewhere", *own)
    environment = ONE_THREAD | {"PYTHONPATH": str(workplace / "elsewhere")}

    def run(script, *arguments):
        command = [sys.executable, ROOT / script, *arguments]
        return subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, check=False)

    own_norm = "model.norm.name=my_variants:CenteredNorm"
    trained = run("train.py", *TINY, own_norm, "training.max_steps=2", "run_dir=own")
    assert trained.returncode == 0, trained.stderr
    assert "norm my_variants:CenteredNorm" in trained.stdout
    scored = run("eval.py", "checkpoint=own")
    assert scored.returncode == 0, scored.stderr
    evaluated = json.loads((workplace / "own" / "eval.json").read_text())["evaluations"][-1]
    explained = run("explain.py", "checkpoint=own", "prompt=The")
    assert explained.returncode == 0, explained.stderr
    summary = json.loads((workplace / "own" / "summary.json").read_text())
    assert "CenteredNorm" in (workplace / "own" / "config.yaml").read_text()
    assert evaluated["bits_per_byte"] == pytest.approx(summary["val_bits_per_byte"], rel=0.05)
    # the working folder is not searched, so that a model from elsewhere brings no code
    shutil.copy(workplace / "elsewhere" / "my_variants.py", workplace / "own")
    missing = subprocess.run(
        [sys.executable, ROOT / "sample.py", "checkpoint=."],
        cwd=workplace / "own", env=ONE_THREAD, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert missing.returncode == 2
    assert "there is no module my_variants on Python's path" in missing.stderr
    refused = run("export.py", "checkpoint=own", "out=exported")
    assert refused.returncode == 2
    assert "my_variants:CenteredNorm" in refused.stderr


@pytest.mark.parametrize(
    ("action", "texts", "expected"),
    [("append", ["c\n"], "a\nb\nc\n"), ("replace", ["a\n", "A\n"], "A\nb\n"), ("replace", ["b\n", ""], "a\n")],
)
def test_blocks_are_applied(tmp_path, action, texts, expected):
    (tmp_path / "file").write_text("a\nb\n")
    apply_block(tmp_path, action, "file", texts)
    assert (tmp_path / "file").read_text() == expected


def test_a_page_out_of_date_is_noticed(tmp_path):
    (tmp_path / "file").write_text("a\nb\n")
    with pytest.raises(AssertionError, match="does not hold this once"):
        apply_block(tmp_path, "replace", "file", ["gone\n", "new\n"])
    with pytest.raises(AssertionError, match="already exists"):
        apply_block(tmp_path, "create", "file", ["new\n"])
