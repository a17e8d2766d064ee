"""tests/unit has the tree of gpt2lab/: the tests of gpt2lab/x/y.py, or of the folder gpt2lab/x/y, are x/test_y.py.

Where they fill two files, the second is x/test_y_WHAT.py.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ACROSS_MODULES = {
    "cli/test_defaults.py": "every file of configs/ against the dataclasses",
    "cli/test_values.py": "every setting of every command with values that make no sense",
    "evaluation/test_precision.py": "one precision through batches, scores and decoder",
    "explain/test_worked_example.py": "docs/worked_example.py",
    "model/test_precision.py": "one precision through every variant",
    "model/test_properties.py": "properties of whole models of any shape",
    "training/test_precision.py": "precision, recomputation and memory of whole steps",
    "test_load.py": "large inputs, through readers, sources and evaluation",
    "test_tree.py": "this file",
}
FILES = [path.relative_to(ROOT / "tests" / "unit") for path in (ROOT / "tests" / "unit").rglob("test_*.py")]


def is_named_after_a_module(file):
    """Whether the file or folder that a test file is named after exists."""
    package = ROOT if file.parts[0] == "benchmarks" else ROOT / "gpt2lab"
    words = file.stem.removeprefix("test_").split("_")
    names = ("_".join(words[:n]) for n in range(1, len(words) + 1))
    found = (package / file.parent / name for name in names)
    return any(path.is_dir() or path.with_suffix(".py").is_file() for path in found)


@pytest.mark.parametrize("file", sorted(FILES), ids=str)
def test_file_is_named_after_a_module(file):
    assert is_named_after_a_module(file) != (file.as_posix() in ACROSS_MODULES)


def test_exceptions_exist():
    assert set(ACROSS_MODULES) <= {file.as_posix() for file in FILES}
