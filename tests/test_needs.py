"""The test command asks nothing of a machine but Python: what a rig needs besides, it asks for when it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from processes import clean_environment
from rigs.needs import needs

ROOT = Path(__file__).parent.parent
BARE = {"PATH": "/of-no-machine", "FUSE_LIBRARY_NAME": "of-no-machine", "HOME": "/of-no-machine", "LC_ALL": "C"}
"""The environment in which no command and no libfuse is found; mfusepy reads the second."""


def test_collecting_on_a_machine_with_nothing_but_python_succeeds() -> None:
    """No test module, and no rig that one imports, asks for a command or a library while it is imported."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "--collect-only", "-qq", "-n0", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=clean_environment(BARE),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr


@pytest.mark.parametrize("ci", [False, True])
def test_what_is_missing_skips_the_test_by_name_and_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch, *, ci: bool
) -> None:
    """A test that can't run here says all that it lacks; a CI that lost a package does not stay green."""
    monkeypatch.setenv("CI", "true" if ci else "")
    monkeypatch.setenv("PATH", "/of-no-machine")
    monkeypatch.setitem(sys.modules, "mfusepy", None)  # as if it were not there
    outcome = pytest.fail.Exception if ci else pytest.skip.Exception
    with pytest.raises(outcome) as caught:
        needs(commands=("strace",), devices=("/dev/of-no-machine",), fuse=True)
    for lacking in ("the command strace", "/dev/of-no-machine", "libfuse"):
        assert lacking in str(caught.value)
