"""Telling systemd how the service is: readiness, status, stopping.

The rule: without systemd (no $NOTIFY_SOCKET) every call does nothing, and a failure to tell is never a failure to work.
"""

import os
import socket
from contextlib import suppress


class Notifier:
    """The socket of sd_notify(3); nothing where there is none."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")

    def ready(self, status: str) -> None:
        """The service does its work from now on."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """One line of what a person wants to know."""
        self._send(f"STATUS={_line(status)}")

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


def _line(status: str) -> str:
    """One line: a line break would begin another assignment."""
    return " ".join(status.splitlines())
