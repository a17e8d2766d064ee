"""A sample of the fault campaign."""

import subprocess
import sys

import pytest

from tests.integration.conftest import ONE_THREAD, ROOT


@pytest.mark.slow
def test_every_hundred_and_twentieth_case_of_the_fault_campaign_ends_in_one_line():
    program = [sys.executable, "-m", "tests.integration.fault_campaign", "--every", "120"]
    result = subprocess.run(program, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4_000:] + result.stderr[-1_000:]
    assert "refused in one line" in result.stdout
