"""What reaches the systemd journal: a line a person reads, with its priority, and each key as a field."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modelwarden.service.journal import JournalHandler, writes_to_journal


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket in the journal's place."""
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as server:
        server.settimeout(10)
        server.bind("journal")
        yield server


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


def write(level: int, message: str, address: str = "journal", **keys: object) -> list[str]:
    """Log a line through a handler; return what its fallback got."""
    kept = Kept()
    record = logging.makeLogRecord({"levelno": level, "msg": message, **keys})
    JournalHandler(kept, address).handle(record)
    return kept.messages


def fields(datagram: bytes) -> dict[str, str]:
    """The fields of a datagram in the journal's native protocol."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, is_short, value = line.partition(b"=")
        if is_short:
            datagram = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            value, datagram = rest[8 : 8 + size], rest[9 + size :]
        found[name.decode()] = value.decode()
    return found


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, "7"), (logging.INFO, "6"), (logging.WARNING, "4"), (logging.ERROR, "3"), (logging.CRITICAL, "2")],
)
def test_level_is_the_priority(journal: socket.socket, level: int, priority: str) -> None:
    """`journalctl -p warning` shows warnings and what is worse, and nothing else."""
    assert write(level, "watch_lost") == []
    assert fields(journal.recv(65_536))["PRIORITY"] == priority


def test_every_key_is_a_field(journal: socket.socket) -> None:
    """`journalctl MODELWARDEN_RUN=...` finds a run's lines."""
    write(logging.INFO, "run_archived", run="20241224_153000", approved=3)
    found = fields(journal.recv(65_536))
    assert found["MESSAGE"] == found["MODELWARDEN_EVENT"] == "run_archived"
    assert found["SYSLOG_IDENTIFIER"] == "modelwarden"
    assert (found["MODELWARDEN_RUN"], found["MODELWARDEN_APPROVED"]) == ("20241224_153000", "3")


def test_line_break_in_a_value_begins_no_field(journal: socket.socket) -> None:
    """A path may hold any character: it can't write a line of another's, nor with another priority."""
    write(logging.WARNING, "unreadable", path="/out/a\nPRIORITY=0\nMESSAGE=all is well")
    found = fields(journal.recv(65_536))
    assert (found["PRIORITY"], found["MESSAGE"]) == ("4", "unreadable")
    assert found["MODELWARDEN_PATH"] == "/out/a\nPRIORITY=0\nMESSAGE=all is well"


def test_text_that_is_no_utf8_arrives(journal: socket.socket) -> None:
    """As escapes."""
    write(logging.WARNING, "unreadable", path="/caf\udce9")
    assert fields(journal.recv(65_536))["MODELWARDEN_PATH"] == "/caf\\udce9"


@pytest.mark.parametrize("address", ["nobody", "/" + "x" * 500])
def test_journal_that_is_away_costs_a_line_of_standard_error(tmp_path: Path, address: str) -> None:
    """And never the work."""
    assert write(logging.ERROR, "run_archived", str(tmp_path) if address == "" else address) == ["run_archived"]


@pytest.mark.usefixtures("journal")
def test_line_too_large_for_the_journal_goes_to_standard_error() -> None:
    """Nothing is cut off in silence."""
    assert write(logging.INFO, "batch_failed", files="x" * 10_000_000) == ["batch_failed"]


def test_stream_that_is_the_journals_is_known(tmp_path: Path) -> None:
    """By device and inode, as systemd.exec(5) has it; a stream that was led elsewhere is not the journal's."""
    with (tmp_path / "one").open("w") as one, (tmp_path / "other").open("w") as other:
        status = os.fstat(one.fileno())
        environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert writes_to_journal(environment, one)
        assert not writes_to_journal(environment, other)
        assert not writes_to_journal({}, one)
        assert not writes_to_journal({"JOURNAL_STREAM": "nonsense"}, one)
    assert not writes_to_journal(environment, sys.stdin)
