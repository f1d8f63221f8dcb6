"""Log lines to the systemd journal, in its native protocol: priorities and fields reach it, not only text.

The rule: a journal that refuses costs a line of standard error, never the caller's work.
"""

import logging
import os
import socket
from collections.abc import Mapping
from typing import Final, TextIO

JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"

_OF_LOGGING: Final = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
"""What every record has; the rest are the line's own keys."""

_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""From a level of logging to one of syslog(3); what is below is debug, 7."""


def writes_to_journal(environment: Mapping[str, str], stream: TextIO) -> bool:
    """Whether that stream of this process is the journal's, as $JOURNAL_STREAM says (systemd.exec(5))."""
    try:
        device, inode = map(int, environment.get("JOURNAL_STREAM", "").split(":"))
        status = os.fstat(stream.fileno())
    except (ValueError, OSError):
        return False
    return (status.st_dev, status.st_ino) == (device, inode)


class JournalHandler(logging.Handler):
    """Sends each record as a datagram of fields.

    MESSAGE is the formatted line; each key of the log line is a field of its own name in capitals, after `MODELWARDEN_`
    (`journalctl MODELWARDEN_RUN=20241224_153000`).

    Args:
        fallback: gets what the journal did not take.
        address: of the journal's socket.
    """

    def __init__(self, fallback: logging.Handler, address: str = JOURNAL_SOCKET) -> None:
        super().__init__()
        self._fallback = fallback
        self._address = address

    def emit(self, record: logging.LogRecord) -> None:
        """Send it; what is too large for a datagram, or not taken, goes to the fallback."""
        try:
            datagram = _datagram(self.format(record), record)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto(datagram, socket.MSG_DONTWAIT, self._address)
        except OSError:
            self._fallback.handle(record)
        except Exception:  # noqa: BLE001 - as logging has it: a line that can't be written never stops its writer
            self.handleError(record)


def _datagram(message: str, record: logging.LogRecord) -> bytes:
    fields = {
        "MESSAGE": message,
        "PRIORITY": str(_priority(record.levelno)),
        "SYSLOG_IDENTIFIER": "modelwarden",
        "MODELWARDEN_EVENT": record.getMessage(),
    }
    for key, value in vars(record).items():
        if key not in _OF_LOGGING:
            fields[f"MODELWARDEN_{key.upper()}"] = str(value)
    return b"".join(_field(name, value) for name, value in fields.items())


def _field(name: str, value: str) -> bytes:
    """As the protocol has it: what holds a line break goes with its length."""
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)


def _priority(level: int) -> int:
    return next((priority for least, priority in _PRIORITIES if level >= least), 7)
