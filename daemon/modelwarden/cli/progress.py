"""How far a long piece of work has come, for who waits at a terminal.

The rule: nothing is shown of what takes less than a second, nothing where standard error is no terminal, and what is
shown is gone when the work is done.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

_T = TypeVar("_T")

PATIENCE_SECONDS: Final = 1.0
_EVERY: Final = 1000
"""How many values pass between two looks at the clock."""


def shown(values: Iterable[_T], total: int, what: str) -> Iterator[_T]:
    """The values as they come, and a bar while they take long.

    Args:
        values: the work.
        total: about how many there are.
        what: is being done.
    """
    if not sys.stderr.isatty():
        yield from values
        return
    began = time.monotonic()
    bar = None
    try:
        for number, value in enumerate(values):
            yield value
            if number % _EVERY == 0 and (bar is not None or time.monotonic() - began > PATIENCE_SECONDS):
                if bar is None:
                    bar = _bar(total, what)
                bar.update(bar.task_ids[0], completed=number)
    finally:
        if bar is not None:
            bar.stop()


def _bar(total: int, what: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    from rich.console import Console  # noqa: PLC0415 - only for what takes long
    from rich.progress import Progress  # noqa: PLC0415

    bar = Progress(console=Console(stderr=True), transient=True)
    bar.start()
    bar.add_task(what, total=total)
    return bar
