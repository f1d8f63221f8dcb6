"""Telling systemd how the service is: ready, what it is about, alive, reloading, stopping.

The rule: without systemd (no $NOTIFY_SOCKET) every call does nothing, and a failure to tell is never a failure to work.
That it is alive is told by the loop that does the work, after progress, and by no thread or timer of its own.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

ALIVE_SHARE: Final = 4
"""How often in the time of the watchdog the service tells that it is alive: three may be late."""


LONGER: Final = 60.0
"""Seconds that systemd is asked to wait for the next sign of life of a service that ends."""


class Notifier:
    """The socket of sd_notify(3); nothing if there is none.

    Args:
        address: of the socket, as $NOTIFY_SOCKET has it, which is the default.
        watchdog_seconds: after how long without a sign of life systemd ends the service; as $WATCHDOG_USEC has it by
            default, 0 for never.
        timer: seconds that only ever grow.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_seconds: float | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")
        seconds = watchdog_seconds if watchdog_seconds is not None else _watchdog_seconds()
        self._pause = seconds / ALIVE_SHARE
        self._timer = timer
        self._alive_at = float("-inf")
        self._ends = False

    def ready(self, status: str) -> None:
        """The service does its work from now on, or goes on with it after a reload."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """One line of what a person wants to know."""
        self._send(f"STATUS={_line(status)}")

    def alive(self) -> None:
        """There was progress. Cheap to call: it tells systemd no more often than the watchdog needs to hear it.

        On the way out it also asks for LONGER: a batch on a slow disk may outlast TimeoutStopSec.
        """
        if self._pause and (now := self._timer()) - self._alive_at >= self._pause:
            self._alive_at = now
            self._send(f"WATCHDOG=1\nEXTEND_TIMEOUT_USEC={int(LONGER * 1e6)}" if self._ends else "WATCHDOG=1")

    def ends(self) -> None:
        """The service was asked to end; safe in a signal handler."""
        self._ends = True
        self._alive_at = float("-inf")  # the next sign is to come at once

    def reloading(self) -> None:
        """The settings are read again; `ready` ends it."""
        # One datagram: systemd 253 and later wants both together.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service is on its way out."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A leading @ means the abstract name space, whose names begin with a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            # Not waiting: a manager whose queue is full costs a status line, never the main loop.
            channel.sendto(message.encode("utf-8", "backslashreplace"), socket.MSG_DONTWAIT, address)


def _watchdog_seconds() -> float:
    """What sd_watchdog_enabled(3) says: 0 if it is not for this process."""
    try:
        if int(os.environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return 0.0
        return max(0, int(os.environ.get("WATCHDOG_USEC", "0"))) / 1e6
    except ValueError:
        return 0.0


def _line(status: str) -> str:
    """One line: a line break would begin another assignment."""
    return " ".join(status.splitlines())
