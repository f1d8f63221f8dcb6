"""What daemon and courier do alike: wrong settings have an exit code of their own, and a new start keeps the id."""

import os
import subprocess
import sys

import pytest

from modelwarden.cli.processes import WRONG_SETTINGS, reading_settings
from modelwarden.errors import RetryLater, StopService
from processes import clean_environment

STARTS_AGAIN = """
import os, sys
from modelwarden.cli.processes import start_again
left = os.open(os.devnull, os.O_RDONLY)
print(os.getpid(), *sys.argv[1:], len(os.listdir("/proc/self/fd")), sys.flags.safe_path)
if "AGAIN" not in os.environ:
    os.environ["AGAIN"] = ""
    start_again()
"""


def test_wrong_settings_of_a_service_have_the_exit_code_for_systemd() -> None:
    """Another start is of no use; to a command that a person typed they are an error as any other."""
    for of_a_service, code in ((True, WRONG_SETTINGS), (False, StopService("x").exit_code)):
        with pytest.raises(StopService) as caught, reading_settings(of_a_service=of_a_service):
            raise StopService("no such folder")
        assert caught.value.exit_code == code
    assert StopService("x").exit_code != WRONG_SETTINGS


def test_refusal_that_may_pass_keeps_its_exit_code() -> None:
    """A disk that is busy while the settings are read is not wrong settings."""
    with pytest.raises(RetryLater) as caught, reading_settings(of_a_service=True):
        raise RetryLater("the disk is busy")
    assert caught.value.exit_code != WRONG_SETTINGS


def test_process_that_starts_again_is_the_same_command_with_the_same_id() -> None:
    """Interpreter options and arguments of any form are kept, what was written comes out, no descriptor is left."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", STARTS_AGAIN, "--config", "a b", "*"],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    first, second = done.stdout.splitlines()
    assert first == second
    assert first.split(" ", 1)[1].startswith("--config a b * ")
    assert first.endswith(" True")
    assert int(first.split()[0]) != os.getpid()
