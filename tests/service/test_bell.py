"""The bell: rings reach a courier that listens, cost one that does not nothing, and never wait."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import cast

import pytest

from modelwarden.cli.couriering import IDLE_SECONDS, POLL_SECONDS, SENDING_POLL_SECONDS, _pause, _Rings
from modelwarden.courier.delivery import Courier
from modelwarden.service.bell import FILE, Bell, ring_bell
from modelwarden.state.database import Database

DEADLINE = 60.0


@pytest.fixture
def handlers() -> Iterator[None]:
    """The signal handlers as they were before."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_ring_ends_the_couriers_wait(tmp_path: Path) -> None:
    """Whoever rings, before the wait or during it; many rings are one, and it is no call for the end."""
    rings = _Rings(Bell(str(tmp_path)), attached=False)
    for _ in range(3):
        ring_bell(str(tmp_path))
    assert not rings.within(DEADLINE)
    timer = Timer(0.05, ring_bell, [str(tmp_path)])
    timer.start()
    assert not rings.within(DEADLINE)
    timer.join()
    assert not rings.within(0)


def test_ring_that_nobody_hears_is_nothing(tmp_path: Path) -> None:
    """No courier, none any more, a folder that is not there, a file in its place: no error, and nothing is made."""
    ring_bell(str(tmp_path / "nowhere"))
    ring_bell(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    os.mkfifo(tmp_path / FILE)
    ring_bell(str(tmp_path))
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).write_bytes(b"a file")
    ring_bell(str(tmp_path))
    assert (tmp_path / FILE).read_bytes() == b"a file"
    assert Bell(str(tmp_path)).descriptor is None


def test_bell_full_of_rings_holds_up_nobody(tmp_path: Path) -> None:
    """A courier that stands still must not stop who archives."""
    bell = Bell(str(tmp_path))
    for _ in range(70_000):  # more than a pipe holds
        ring_bell(str(tmp_path))
    bell.heed()


class Work:
    """What a courier has to do, as far as its pause asks."""

    def __init__(self, *, sending: bool = False, owed: bool = False) -> None:
        self.is_sending = lambda: sending
        self.is_owed = lambda: owed


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("work", "bell", "seconds"),
    [
        (Work(), True, IDLE_SECONDS),
        (Work(), False, POLL_SECONDS),
        (Work(owed=True), True, POLL_SECONDS),
        (Work(owed=True, sending=True), True, SENDING_POLL_SECONDS),
    ],
    ids=["idle", "without a bell", "owing", "sending"],
)
def test_courier_looks_rarely_only_while_nothing_is_owed(
    tmp_path: Path, work: Work, bell: bool, seconds: float
) -> None:
    """Who has nothing to do is woken."""
    if not bell:
        (tmp_path / FILE).write_bytes(b"")
    assert _pause(cast("Courier", work), _Rings(Bell(str(tmp_path)), attached=False)) == seconds


def test_courier_knows_whether_it_is_owed_anything(tmp_path: Path) -> None:
    """Of an empty outbox nothing waits."""
    with closing(Database(str(tmp_path), "2024-12-24T15:30:00Z")) as database:
        assert not Courier(database, [], send_timeout=1.0).is_owed()
