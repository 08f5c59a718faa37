"""The estimators under SCIPY_ARRAY_API=1, which is read when SciPy is imported."""

import os
import re
import subprocess
import sys
from pathlib import Path


def test_checks_under_the_array_api_pass():
    """All of array_api_checks.py passes in its own process, and none is skipped."""
    checks = Path(__file__).parents[1] / "array_api_checks.py"
    paths = {"PYTHONPATH": str(checks.parents[1]), **os.environ}
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(checks)],
        env={**paths, "SCIPY_ARRAY_API": "1"},
        cwd=checks.parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout
    assert re.fullmatch(r"\d+ passed in .*", told.stdout.splitlines()[-1]), told.stdout
