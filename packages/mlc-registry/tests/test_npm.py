"""The same answers as npm and python-semver, to questions that are drawn anew; `nox -s npm` asks many more."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "npm_differential.py"


def test_nothing_differs_from_npm():
    """Outside of what is documented."""
    command = [sys.executable, str(PROGRAM), "--pairs", "20000", "--comparisons", "5000"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())

    assert 0 == done.returncode, done.stdout + done.stderr
    assert ": 0 differences" in done.stdout
