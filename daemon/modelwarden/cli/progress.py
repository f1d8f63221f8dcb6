"""How far a long piece of work has come, for who waits at a terminal.

The rule: nothing is shown of what takes less than a second, nothing if standard error is no terminal, and what is
shown is gone when the work is done. No thread draws it: who works may fork.
"""

import math
import sys
import time
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Final, Self, TypeVar

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

_T = TypeVar("_T")

PATIENCE_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.1
"""From one drawing to the next, at least."""


class Bar:
    """Says how far the work has come that is done while it is entered.

    Args:
        what: is being done.
        total: about how many steps it takes; None if nobody knows.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._drawn: Progress | None = None
        self._next = time.monotonic() + PATIENCE_SECONDS if sys.stderr.isatty() else math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self._next = math.inf
        if self._drawn is not None:
            self._drawn.stop()
            self._drawn = None

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        self.alive()

    def alive(self) -> None:
        """The work goes on."""
        if (now := time.monotonic()) >= self._next:
            self._draw()
            self._next = now + _PAUSE_SECONDS

    def say(self, text: str) -> None:
        """Print lines; at a terminal they stand above the bar, and whole."""
        if self._drawn is None or not sys.stdout.isatty():
            typer.echo(text)
            return
        self._drawn.stop()
        try:
            typer.echo(text)
        finally:
            self._drawn.start()

    def _draw(self) -> None:
        if self._drawn is None:
            self._drawn = _bar(self._what, self._total, self._done)
        (task,) = self._drawn.task_ids
        self._drawn.update(task, completed=self._done, refresh=True)


def shown(values: Iterable[_T], total: int | None, what: str) -> Generator[_T]:
    """The values as they come, and a bar while they take long.

    Who may fail between two of them closes it: else the bar stays as long as the failure is talked about.

    Args:
        values: the work.
        total: about how many there are; None if nobody knows.
        what: is being done.
    """
    if not sys.stderr.isatty():
        yield from values
        return
    with Bar(what, total) as bar:
        for value in values:
            yield value
            bar.step()


def _bar(what: str, total: int | None, done: int) -> "Progress":
    from rich.console import Console  # noqa: PLC0415 - only for what takes long
    from rich.progress import Progress  # noqa: PLC0415

    # Standard output is left alone: it may lead elsewhere.
    bar = Progress(console=Console(stderr=True), transient=True, auto_refresh=False, redirect_stdout=False)
    bar.add_task(what, total=total, completed=done)
    bar.start()
    return bar
