"""docs/python_api.md: its script runs as it is written."""

import re
import subprocess
import sys

import pytest

from tests.integration.conftest import ONE_THREAD, ROOT

SCRIPT = re.compile(r"<!-- run -->\n```python\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_script_of_the_page_trains_measures_generates_and_reads_hidden_states(tmp_path):
    (script,) = SCRIPT.findall((ROOT / "docs" / "python_api.md").read_text())
    environment = ONE_THREAD | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    *_, shapes = result.stdout.strip().splitlines()
    assert shapes == "torch.Size([1, 22, 64]) torch.Size([1, 2, 22, 22])"
    assert re.search(r": \d+\.\d{3} bits per byte$", result.stdout, re.MULTILINE)
