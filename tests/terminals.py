"""Commands at a terminal: a pseudo terminal of a given width, and what is shown on it."""

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence

from processes import clean_environment

NOTHING_SET: Mapping[str, str] = {}

AS_EVER: Sequence[str] = ("-m", "modelwarden")
"""How Python runs a command."""

IMPATIENT: Sequence[str] = (
    "-c",
    """
from modelwarden.__main__ import main
from modelwarden.cli import progress
progress.PATIENCE_SECONDS = progress._PAUSE_SECONDS = 0.0
main()
""",
)
"""The same, and how far its work has come is shown at once, and after every step."""


def at_a_terminal(
    *arguments: str | os.PathLike[str],
    columns: int = 80,
    environment: Mapping[str, str] = NOTHING_SET,
    how: Sequence[str] = AS_EVER,
    stdout: int | None = None,
) -> str:
    """What a command shows on a terminal of that width, colours included; without a pager unless one is set.

    Args:
        arguments: the command's.
        columns: the terminal's.
        environment: more variables.
        how: AS_EVER or IMPATIENT.
        stdout: where standard output leads, if not to the terminal.
    """
    ours, theirs = pty.openpty()
    shown = b""
    try:
        with subprocess.Popen(
            [sys.executable, "-P", *how, *arguments],
            env=clean_environment({"TERM": "xterm", "COLUMNS": str(columns), "PAGER": "cat", **environment}),
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
        ) as process:
            while process.poll() is None or select.select([ours], [], [], 0)[0]:
                if select.select([ours], [], [], 0.05)[0]:
                    shown += os.read(ours, 65_536)
    finally:
        os.close(ours)
        os.close(theirs)
    return shown.decode()


_PIECE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def left_on_screen(shown: str) -> list[str]:
    """The lines that are on the terminal in the end, without blanks at their ends and without colours.

    It knows what a bar is drawn and taken away with: the cursor up, the beginning of the line, a line that is erased.
    """
    lines, row, column = [""], 0, 0
    for value, verb, end, text in _PIECE.findall(shown):
        if text:
            before = lines[row].ljust(column)
            lines[row] = before[:column] + text + before[column + len(text) :]
            column += len(text)
        elif end == "\r":
            column = 0
        elif end:
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif verb == "A":
            row -= int(value or 1)
        elif verb == "K":
            assert value == "2"
            lines[row] = ""
        else:
            assert verb in {"m", "h", "l"}, f"a terminal would do something with {verb}"
    return [line.rstrip() for line in lines if line.strip()]
