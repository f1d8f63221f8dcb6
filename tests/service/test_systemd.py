"""What systemd is told arrives as sd_notify(3) words it; without systemd, or with a broken one, the work goes on."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modelwarden.service.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def listener(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The socket that $NOTIFY_SOCKET names: a file, or a name in the abstract space."""
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    name = f"modelwarden-test-{os.getpid()}-{tmp_path.name}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as server:
        server.settimeout(10)
        server.bind("notify" if request.param == "path" else f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", "notify" if request.param == "path" else f"@{name}")
        yield server


def received(server: socket.socket) -> list[str]:
    return server.recv(65_536).decode().split("\n")


def test_readiness_and_status_are_one_datagram(listener: socket.socket) -> None:
    """That the service is ready and what it does come in one message."""
    Notifier().ready("3 runs archived 📈")
    assert received(listener) == ["READY=1", "STATUS=3 runs archived 📈"]


def test_status_and_stopping_are_told(listener: socket.socket) -> None:
    """Each state has the assignment that sd_notify(3) names."""
    notifier = Notifier()
    notifier.status("busy")
    notifier.stopping()
    assert received(listener) == ["STATUS=busy"]
    assert received(listener) == ["STOPPING=1"]


def test_reload_is_told_with_its_moment(listener: socket.socket) -> None:
    """Both in one datagram, as systemd 253 wants it; the clock is the one that it compares with."""
    before = time.monotonic_ns() // 1000
    Notifier().reloading()
    state, moment = received(listener)
    assert state == "RELOADING=1"
    assert before <= int(moment.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_service_that_was_asked_to_end_asks_for_time_while_it_works(listener: socket.socket) -> None:
    """A batch on a slow disk may outlast TimeoutStopSec; what works no more asks for nothing."""
    notifier = Notifier(watchdog_seconds=60.0, timer=lambda: 1000.0)
    notifier.alive()
    notifier.ends()
    notifier.alive()
    notifier.stopping()
    assert received(listener) == ["WATCHDOG=1"]
    assert received(listener) == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=60000000"]
    assert received(listener) == ["STOPPING=1"]


def test_signs_of_life_are_told_four_times_in_the_watchdogs_time(listener: socket.socket) -> None:
    """However often the loop turns: what is told is enough, and no load."""
    now = 1000.0
    notifier = Notifier(watchdog_seconds=60.0, timer=lambda: now)
    for _ in range(120):
        notifier.alive()
        now += 0.5
    notifier.status("the end")
    told = [received(listener) for _ in range(5)]
    assert told == [["WATCHDOG=1"]] * 4 + [["STATUS=the end"]]


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "often"}, {"WATCHDOG_USEC": "0"}],
)
def test_watchdog_of_another_or_none_is_not_fed(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    """$WATCHDOG_PID names the process that is meant; a courier started by the daemon is not."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notifier = Notifier()
    notifier.alive()
    notifier.status("the end")
    assert received(listener) == ["STATUS=the end"]


def test_watchdog_for_this_process_is_fed(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd sets it."""
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    Notifier().alive()
    assert received(listener) == ["WATCHDOG=1"]


def test_status_of_several_lines_is_one_assignment(listener: socket.socket) -> None:
    """A reason with a line break in it (a file may be called so) does not set another of systemd's variables."""
    Notifier().status("waiting: /out/a\nREADY=1\nMAINPID=1: can't be locked")
    assert len(received(listener)) == 1


def test_status_that_is_no_text_is_told_all_the_same(listener: socket.socket) -> None:
    """A folder whose name is not UTF-8 may be part of a status."""
    Notifier().status("waiting: /caf\udce9")
    assert received(listener)[0].startswith("STATUS=waiting: /caf")


def test_address_given_outranks_the_environment(listener: socket.socket, tmp_path: Path) -> None:
    """A notifier made with an address uses that one."""
    address = os.environ["NOTIFY_SOCKET"]
    os.environ["NOTIFY_SOCKET"] = str(tmp_path / "other")
    Notifier(address).stopping()
    assert received(listener) == ["STOPPING=1"]


@pytest.mark.parametrize("address", ["", "missing", "file", "@nobody-listens-here", "/" + "x" * 500, "no-datagrams"])
def test_failure_to_tell_is_never_a_failure_to_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """No systemd, a socket that is gone, one of another kind: every call returns."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as server:
        server.bind("no-datagrams")
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notifier = Notifier()
        notifier.ready("a")
        notifier.status("b")
        notifier.stopping()


def test_unset_variable_means_nobody_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by hand, the service tells nobody and works."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("a")


def test_systemd_that_does_not_read_holds_nobody_up(listener: socket.socket) -> None:
    """A full queue costs a status line, not the main loop: a manager that hangs must not stop the archiving."""
    notifier = Notifier()

    def talk() -> None:
        for _ in range(2_000):
            notifier.status("busy")

    thread = threading.Thread(target=talk)
    thread.start()
    thread.join(2)
    stuck = thread.is_alive()
    listener.close()
    thread.join()
    assert not stuck


def test_telling_leaves_no_descriptor_open(listener: socket.socket) -> None:
    """A status every few seconds for months leaks nothing."""
    notifier = Notifier()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        notifier.status("busy")
        received(listener)
    assert len(os.listdir("/proc/self/fd")) == before
