"""Commands at a terminal: a pseudo terminal of a given width, and what is shown on it."""

import os
import pty
import select
import subprocess
import sys
from collections.abc import Mapping

from processes import clean_environment

NOTHING_SET: Mapping[str, str] = {}


def at_a_terminal(
    *arguments: str | os.PathLike[str], columns: int = 80, environment: Mapping[str, str] = NOTHING_SET
) -> str:
    """What a command shows on a terminal of that width, colours included; without a pager unless one is set."""
    ours, theirs = pty.openpty()
    shown = b""
    try:
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "modelwarden", *arguments],
            env=clean_environment({"TERM": "xterm", "COLUMNS": str(columns), "PAGER": "cat", **environment}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            while process.poll() is None or select.select([ours], [], [], 0)[0]:
                if select.select([ours], [], [], 0.05)[0]:
                    shown += os.read(ours, 65_536)
    finally:
        os.close(ours)
        os.close(theirs)
    return shown.decode()
