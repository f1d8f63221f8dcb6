"""Lives of the crash rigs' subject: started within milliseconds, stopped where a rig wants to attach, heard at the end.

The rule: a life belongs to its `Subjects`, and those end with the test process, however that ends.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from processes import DEADLINE, DIES_WITH_US, clean_environment
from rigs.crash_subject import Orders, Report

TESTS: Final = Path(__file__).parent.parent


class Life:
    """A subject's life, under way.

    Attributes:
        pid: of its process.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.pid: int = self._hear()
        self._handle: int | None = None  # by its number alone we might kill somebody else
        with suppress(ProcessLookupError):  # a short life
            self._handle = os.pidfd_open(self.pid)

    def stopped_at(self, place: str) -> None:
        """Wait until it has come to this stop."""
        heard = self._hear()
        assert heard == place, heard

    def go_on(self) -> None:
        """Let it go on from where it stopped."""
        self._connection.send(None)

    def let_run(self) -> None:
        """Let it go on from where it was made to stand still."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it, wherever it is; nothing where it has ended."""
        if self._handle is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        """Leave no process behind."""
        self.kill()
        if self._handle is not None:
            os.close(self._handle)

    def end(self) -> Report | None:
        """Wait for its end; what it tells, or None where it was killed."""
        try:
            heard = self._hear()
        except (EOFError, ConnectionResetError):
            return None
        assert isinstance(heard, dict), heard
        return Report(**heard)

    def end_or_stop(self, place: str) -> Report | None:
        """Wait for its end, and what it tells; None where it has come to this stop instead."""
        heard = self._hear()
        return None if heard == place else Report(**heard)

    def _hear(self) -> Any:
        assert self._connection.poll(DEADLINE), "the subject says nothing"
        return self._connection.recv()


class Subjects:
    """Where lives come from: one process that has imported a product.

    Args:
        control: the socket on which it takes orders.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    @contextmanager
    def life(self, orders: Orders) -> Iterator[Life]:
        """Begin a life."""
        ours, theirs = socket.socketpair()
        with Connection(ours.detach()) as connection:
            with theirs:
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
            connection.send(asdict(orders))
            life = Life(connection)
            try:
                yield life
            finally:
                life.close()


@contextmanager
def subjects(
    product: Path, *, how: Sequence[str | os.PathLike[str]] = (), module: str = "rigs.crash_subject"
) -> Iterator[Subjects]:
    """Import a product once, for as many lives of it as one likes.

    Args:
        product: the folder that holds the package `modelwarden`: the real one's, or a mutant's.
        how: a prefix, such as a namespace's.
        module: the program whose lives they are.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [*DIES_WITH_US, *how, sys.executable, "-P", "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd="/",
            env=clean_environment({"PYTHONPATH": f"{product}:{TESTS}", "PYTHONDONTWRITEBYTECODE": "1"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        try:
            yield Subjects(ours)
        finally:
            process.kill()
            process.wait()
