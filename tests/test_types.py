"""The types of the package agree, as mypy reads them."""

import subprocess
import sys
from pathlib import Path


def test_mypy_finds_nothing():
    command = [sys.executable, "-m", "mypy"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
