"""What both processes, the daemon and the courier, do alike at their start and their end.

The rule: a process that reads its settings again is started anew in its place, with nothing of the one before but its
number; so what runs never mixes two settings, nor two versions of the program.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from modelwarden.errors import StopService

WRONG_SETTINGS: Final = 78
"""Exit code of a service whose settings are wrong: another start would be of no use (sysexits: EX_CONFIG)."""


@contextmanager
def reading_settings(*, of_a_service: bool) -> Iterator[None]:
    """While entered, an error of a service has the exit code by which systemd knows that no other start would help."""
    try:
        yield
    except StopService as error:
        if of_a_service:
            error.exit_code = WRONG_SETTINGS
        raise


def start_again() -> NoReturn:
    """Become the same command anew, under the same process id; what was opened is closed by the kernel.

    A hang-up that comes from now on waits until the new life has its handler: without one it would end the process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
