"""What standard output is: a terminal with a width and colours, or a pipe or file that gets plain lines.

The rule: colours and a pager are for a terminal alone. What a pipe gets has no escape in it, whatever a stranger wrote.
"""

import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

PIPE_WIDTH: Final = 10_000
"""Columns if standard output is no terminal: a row is a line, and nothing that a script greps for is cut."""

_STYLES: Final = {"green": "32", "yellow": "33", "red": "31", "bold red": "1;31", "bold": "1", "dim": "2"}
_PAGERS: Final = ("less", "more")


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def width() -> int:
    """Columns of standard output."""
    return shutil.get_terminal_size().columns if is_terminal() else PIPE_WIDTH


def has_colour() -> bool:
    """Whether colours are wanted: at a terminal that has some, unless NO_COLOR says no (see no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str) -> str:
    """The text in that style if colours are wanted; `style` is one of those above, or "" for none."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and has_colour() else text


def visible(text: str) -> str:
    """A stranger's text as one line that moves no cursor: what can't be printed is written as an escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class _Screenful(io.TextIOWrapper):
    """What is written while it may be more than a screen: says of itself what the terminal would."""

    def isatty(self) -> bool:
        return True


@contextmanager
def paged() -> Iterator[None]:
    """What is written while entered goes through a pager if it is longer than the screen.

    `$PAGER` says which; empty, or `cat`, none. In a pipe nothing changes.
    """
    if not (is_terminal() and sys.stdin.isatty()) or os.environ.get("TERM") == "dumb":
        yield
        return
    terminal, kept = sys.stdout, io.BytesIO()
    sys.stdout = screenful = _Screenful(kept, encoding="utf-8", errors="backslashreplace")
    try:
        yield
    finally:
        screenful.flush()
        sys.stdout = terminal
        text = kept.getvalue()
        if text.count(b"\n") < shutil.get_terminal_size().lines or not _page(text):
            terminal.write(text.decode())
            terminal.flush()


def _page(text: bytes) -> bool:
    """Show the text in a pager; False if there is none."""
    wanted = os.environ.get("PAGER")
    if wanted is None:
        wanted = next((each for each in _PAGERS if shutil.which(each)), "")
    try:
        words = shlex.split(wanted)
    except ValueError:
        return False
    if not words or words == ["cat"]:
        return False
    # As git does: quit if it fits, keep colours, leave the screen as it is.
    environment = os.environ | {"LESS": os.environ.get("LESS", "FRX")}
    try:
        pager = subprocess.Popen(words, stdin=subprocess.PIPE, env=environment)  # noqa: S603 - as $PAGER says
    except OSError:
        return False
    with pager, suppress(KeyboardInterrupt, BrokenPipeError):
        pager.communicate(text)
    return True
