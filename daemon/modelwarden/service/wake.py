"""What wakes the main loop: a pipe that any thread and any signal handler may ring.

The rule: ringing never blocks and takes no lock (an Event's lock, taken in a signal handler, can deadlock with the main
thread that waits on it).
"""

import os
import select
from contextlib import suppress


class Wake:
    """A bell. Rings before a wait are not lost, and many rings are one."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ring(self) -> None:
        """End the wait that is under way, or the next one."""
        with suppress(BlockingIOError):  # the pipe is full of rings
            os.write(self._write, b"\0")

    def wait(self, seconds: float) -> None:
        """Return when the bell rings, or after so many seconds."""
        select.select([self._read], [], [], max(0.0, seconds))
        with suppress(BlockingIOError):
            while os.read(self._read, 4096):
                continue

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._read)
        os.close(self._write)
