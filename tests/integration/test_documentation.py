"""The scripts of docs/ run as they are written, and the generated page says what the code computes."""

import re
import subprocess
import sys

import pytest

from docs import worked_example
from tests.integration.conftest import ONE_THREAD, ROOT

SCRIPT = re.compile(r"<!-- run -->\n```python\n(.*?)```", re.DOTALL)


def run_script(page, folder):
    (script,) = SCRIPT.findall((ROOT / "docs" / page).read_text())
    environment = ONE_THREAD | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_scripts_of_the_pages_train_measure_generate_and_look_inside(tmp_path):
    printed = run_script("python_api.md", tmp_path)
    *_, shapes = printed.strip().splitlines()
    assert shapes == "torch.Size([1, 22, 64]) torch.Size([1, 2, 22, 22])"
    assert re.search(r": \d+\.\d{3} bits per byte$", printed, re.MULTILINE)

    shapes, ranks, *parts = run_script("explain.md", tmp_path).strip().splitlines()  # of the run that was just trained
    assert shapes == "torch.Size([2, 22, 32]) torch.Size([2, 22, 22]) torch.Size([22, 257])"
    assert ranks.startswith("tensor([")
    assert ranks.endswith(" 1])")  # after the last block, the likeliest token is the first
    assert len(parts) == 5


def test_tensors_of_the_scripts_are_on_the_device_of_the_model():
    """Which is a GPU where there is one."""
    scripts = "".join(script for page in (ROOT / "docs").glob("*.md") for script in SCRIPT.findall(page.read_text()))
    tensors = re.findall(r"torch\.tensor\(.*", scripts)
    assert tensors
    assert all("device=model.runtime.device" in tensor for tensor in tensors)


def test_worked_example_is_what_the_code_computes():
    assert worked_example.PAGE.read_text(encoding="utf-8") == worked_example.page()
