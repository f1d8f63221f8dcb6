"""All cores for one long reading: the same question about thousands of things, answered in order.

The rule: a process of these only looks and answers, and ends with whoever asked: it holds a copy of what was open when
it was forked, so nobody may take a lock while it lives. What one that died did not answer is answered by who asked.
"""

import os
import signal
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final, Protocol, TypeVar

A = TypeVar("A")
B = TypeVar("B")

MANY: Final = 256
"""From so many things on, processes are worth their start."""

MOST_CORES: Final = 4
"""Most processes that read: the host is there to train."""

_AT_ONCE: Final = 16
"""Things that are answered together: what they share is sent once."""

_FORK: Final = get_context("fork")


class Shown(Protocol):
    """Hands things on as they come, and shows who waits how far that is."""

    def __call__(self, values: Iterable[A], total: int, what: str) -> Generator[A]:
        """The things; about how many there are, and what is done with them."""


def unseen(values: Iterable[A], total: int, what: str) -> Generator[A]:  # noqa: ARG001 - nobody waits
    """Hands things on, and shows nothing."""
    yield from values


def ask_all_cores(look: Callable[[A], B], things: Sequence[A]) -> Generator[tuple[A, B]]:
    """Each thing with what `look` says of it, in order; many of them by several processes, few of them here."""
    cores = min(len(os.sched_getaffinity(0)), MOST_CORES)
    if cores == 1 or len(things) < MANY:
        yield from ((thing, look(thing)) for thing in things)
        return
    shares = [things[start : start + _AT_ONCE] for start in range(0, len(things), _AT_ONCE)]
    processes: list[_Process] = []
    try:
        for number in range(cores):
            processes.append(_Process(look, shares[number::cores], processes))
        for number, share in enumerate(shares):
            answers = processes[number % cores].answers()
            yield from zip(share, map(look, share) if answers is None else answers, strict=True)
    finally:
        for process in processes:
            process.end()


class _Process:
    """One process, and the pipe from it.

    Args:
        look: see above.
        shares: of the things, one an answer.
        others: forked before; the new process has copies of their pipes, which would keep those open.
    """

    def __init__(self, look: Callable[[Any], Any], shares: Sequence[Any], others: Sequence["_Process"]) -> None:
        self.pipe, theirs = _FORK.Pipe(duplex=False)
        ours = [self.pipe, *(other.pipe for other in others)]
        self._process = _FORK.Process(target=_answer, args=(look, shares, theirs, ours), daemon=True)
        self._process.start()
        theirs.close()

    def answers(self) -> Sequence[Any] | None:
        """About its next share; None if it died."""
        try:
            answers: Sequence[Any] = self.pipe.recv()
        except (OSError, EOFError):
            return None
        return answers

    def end(self) -> None:
        self.pipe.close()
        self._process.kill()  # it has nothing to finish
        self._process.join()
        self._process.close()


def _answer(
    look: Callable[[A], B], shares: Sequence[Sequence[A]], pipe: Connection, ours: Sequence[Connection]
) -> None:
    """A process's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: who asked ends, and with it this
    for each in ours:
        each.close()
    with suppress(OSError):  # nobody listens any more
        for share in shares:
            pipe.send([look(thing) for thing in share])
    os._exit(0)  # without what a Python process does at its end: none of it is ours
