"""A test of ours, run as it stands against a mutant: it must fail.

The rule: what counts is that the test was found, ran and failed. A mutant that survives means that the test is blind.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

from processes import clean_environment
from rigs.mutants import Mutant

PROJECT: Final = Path(__file__).parents[2]

FAILED: Final = 1
"""What pytest exits with where tests ran and failed; a test that was not found is another number."""


def assert_fails(mutant: Mutant, folder: Path, where: str, test: str, *, deadline: int, marker: str = "") -> None:
    """Run a test against a mutant, and see it fail.

    Args:
        mutant: which.
        folder: a new one, for the mutant and for all that the test makes.
        where: the test's file, or the folder of its file, below `tests`.
        test: the part of its name that tells which one it is.
        deadline: seconds that it waits for what a mutant never does.
        marker: what it is run by; "" if it is run without.
    """
    product = mutant.make(folder / "product")
    selection = ["-k", test, *(["-m", marker] if marker else [])]
    options = ["-q", "-x", "-n0", "-p", "no:randomly", "-p", "no:cacheprovider", f"--basetemp={folder / 'test'}"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *selection, PROJECT / "tests" / where],
        cwd=PROJECT,
        env=clean_environment({"PYTHONPATH": str(product), "TEST_DEADLINE": str(deadline)})
        | {"PYTEST_ADDOPTS": "", "PYTEST_XDIST_WORKER": ""},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == FAILED, f"the mutant survived:\n{result.stdout}{result.stderr}"
