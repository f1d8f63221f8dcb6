"""Cases 46 to 51 of watching: rights that are missing, disks that are full or read-only, clocks that jump.

The rule: what stands in the way is said and costs nobody else anything; when it is gone, all that waited is archived
by the same daemon, without anybody's doing.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from invariants import assert_archive_whole
from processes import destination, drop, outbox_of, running_courier, until
from rigs.launching import SteppedClock, without_the_rights_of_root
from rigs.mounts import ext4_image, private_mounts
from rigs.refusing_filesystem import Order, refusing_filesystem
from rigs.watched import Watched
from servers import http_server
from summaries import GOOD, encoded, flat_summary

pytestmark = pytest.mark.cases

HOUR: Final = 3_600
DAY: Final = 24 * HOUR


def test_case_46_file_that_may_not_be_read_is_archived_when_it_may(tmp_path: Path) -> None:
    """A file that may not be read is said, once, and archived when it may; others need not wait for it."""
    watched = Watched(tmp_path)
    with watched.daemon(how=without_the_rights_of_root()) as daemon:
        data = watched.summary()
        path = watched.site.out / "summary.json"
        closed = watched.site.out / "summary.json.tmp"
        closed.write_bytes(data)
        closed.chmod(0)
        closed.rename(path)
        (event,) = daemon.wait_for("unreadable")
        assert event["path"] == str(path)
        assert os.strerror(errno.EACCES) in event["reason"]
        watched.caught_up()
        path.chmod(0o644)
        watched.archived(data)
        assert len(daemon.events("unreadable")) == 1
    watched.assert_once()


def test_case_47_folder_that_may_not_be_read_is_said_once(tmp_path: Path) -> None:
    """It is named once, however often it is passed by; its siblings go on, and it is read when it may be."""
    watched = Watched(tmp_path, scan_every=0.3)
    closed, sibling = watched.site.out / "closed", watched.site.out / "sibling"
    for folder in (closed, sibling):
        folder.mkdir()
        drop(watched.summary(), folder)
    _, beside = watched.expected
    closed.chmod(0)
    try:
        with watched.daemon(how=without_the_rights_of_root()) as daemon:
            watched.archived(beside)
            later = watched.summary()
            drop(later, sibling, "later.json")
            watched.archived(later)
            daemon.wait_for("scanned", len(daemon.events("scanned")) + 3)
            (event,) = daemon.events("unreadable")
            assert event["path"] == str(closed)
            closed.chmod(0o755)
            watched.archived(*watched.expected)
            daemon.wait_for("watch_armed", 2)  # what may be read may be watched: its next file is not a scan's
    finally:
        closed.chmod(0o755)
    watched.assert_once()


class Disk(NamedTuple):
    """A disk whose room a test takes and gives back.

    Attributes:
        says: what the kernel says of it.
        watched: a folder whose archive is on it.
        fill: take all room.
        make_room: give it back.
    """

    says: str
    watched: Watched
    fill: Callable[[], None]
    make_room: Callable[[], None]


@contextmanager
def small_disk(folder: Path, *, state_beside: bool) -> Iterator[Disk]:
    """A real ext4 of two megabytes; what fills it is one file."""
    (folder / "archive").mkdir()
    with private_mounts() as mounts:
        mounts.ext4(ext4_image(folder / "disk", 2), folder / "archive")
        ballast = mounts.seen(folder / "archive" / ".ballast")

        def fill() -> None:
            with ballast.open("wb", buffering=0) as stream:
                for size in (1 << 16, 1 << 10, 1):
                    with suppress(OSError):
                        while stream.write(bytes(size)):
                            continue

        watched = Watched(folder, mounts=mounts, state_beside=state_beside)
        yield Disk(os.strerror(errno.ENOSPC), watched, fill, ballast.unlink)


@contextmanager
def full_disk_with_the_state(folder: Path) -> Iterator[Disk]:
    with small_disk(folder, state_beside=False) as disk:
        yield disk


@contextmanager
def full_disk(folder: Path) -> Iterator[Disk]:
    with small_disk(folder, state_beside=True) as disk:
        yield disk


@contextmanager
def used_up_quota(folder: Path) -> Iterator[Disk]:
    (folder / "archive").mkdir()
    with private_mounts() as mounts, refusing_filesystem(mounts, folder / "archive") as disk:
        orders = (("write", "*", errno.EDQUOT), ("create", "*", errno.EDQUOT))
        watched = Watched(folder, mounts=mounts, state_beside=True)
        yield Disk(os.strerror(errno.EDQUOT), watched, lambda: disk.refuse(*orders), disk.relent)


@pytest.mark.parametrize("on", [full_disk, full_disk_with_the_state, used_up_quota], ids=lambda on: on.__name__)
def test_case_48_full_disk_publishes_nothing_and_all_when_there_is_room(
    tmp_path: Path, on: Callable[[Path], AbstractContextManager[Disk]]
) -> None:
    """Without room nothing half-made shows, the trainer's files wait, and with room they are archived at once."""
    with on(tmp_path) as disk:
        watched = disk.watched
        with watched.daemon() as daemon:
            watched.caught_up()
            before = list(watched.expected)
            disk.fill()
            watched.drop(watched.summary())
            daemon.wait_for("postponed", 2)
            assert_archive_whole(watched.site.archive, before)
            disk.make_room()
            watched.archived(*watched.expected)
            reasons = [event["reason"] for event in daemon.events("postponed")]
            assert all(disk.says in reason or "full" in reason for reason in reasons), reasons  # SQLite says full
        watched.assert_once()


READ_ONLY: Final[Sequence[Order]] = [
    (call, "*", errno.EROFS) for call in ("create", "mkdir", "rename", "unlink", "write")
]
"""What a disk answers that the kernel made read-only after an error."""


@pytest.mark.parametrize(
    ("waiting", "warnings"),
    [
        pytest.param(1, None, id="stays_pending"),
        pytest.param(3, 1, id="one_alert"),
    ],
)
def test_case_49_what_comes_while_the_archive_is_read_only_stays_pending(
    tmp_path: Path, waiting: int, warnings: int | None
) -> None:
    """Nothing is lost and nothing rejected; one warning names the disk, however many files wait and tries fail."""
    (tmp_path / "archive").mkdir()
    with private_mounts() as mounts, refusing_filesystem(mounts, tmp_path / "archive") as disk:
        watched = Watched(tmp_path, mounts=mounts, state_beside=True)
        with watched.daemon() as daemon:
            watched.caught_up()
            before = list(watched.expected)
            disk.refuse(*READ_ONLY)
            earlier = len(warned(watched))
            for number in range(waiting):
                watched.drop(watched.summary(), f"{number}.json")
            daemon.wait_for("postponed", 2)
            assert_archive_whole(watched.site.archive, before)
            disk.relent()
            watched.archived(*watched.expected)
            reasons = warned(watched)[earlier:]
            assert all("Read-only" in reason for reason in reasons), reasons
            assert len(reasons) == (warnings or len(reasons))
        watched.assert_once()


def warned(watched: Watched) -> list[str]:
    """The reasons of the warnings so far."""
    return [event["reason"] for event in watched.latest.events() if event["level"] == "warning"]


def archiving(folder: Path, clock: SteppedClock, step: int) -> None:
    """A half that is finished, a file that never is, and scans, all across the step."""
    watched = Watched(folder, scan_every=0.3, reject_after=1)
    with watched.daemon(env=clock.env) as daemon:
        half = watched.summary()
        path = watched.site.out / "half.json"
        with path.open("wb", buffering=0) as stream:
            stream.write(half[:100])
            until(lambda: watched.logged("not_ready", path), "the half to be looked at")
            clock.step_to(step)
            stream.write(half[100:])
        bad = watched.drop(watched.rubbish(b'{"models": ['), "bad.json")
        watched.archived(half)
        (event,) = until(lambda: watched.logged("summary_rejected", bad), "the rejection")
        daemon.wait_for("scanned", len(daemon.events("scanned")) + 2)
        told = datetime.fromisoformat(event["timestamp"]).timestamp()
        assert abs(told - time.time() - step) < HOUR / 2, "the daemon's clock was not stepped"
    watched.assert_once()


def delivering(folder: Path, clock: SteppedClock, step: int) -> None:
    """A message whose first try failed, and the step comes before the second."""
    with http_server() as server, ExitStack() as stack:
        watched = Watched(folder, destinations=destination("team", server.url(), "APPROVED", "REVIEW", "DROP"))
        server.answer = 503
        with watched.daemon(env=clock.env):
            watched.caught_up()
        arguments = ("--config", watched.site.config)
        log = folder / "courier-log"
        courier = stack.enter_context(running_courier(*arguments, log=log, env=clock.env))
        courier.wait_for("message_not_delivered")

        def wait_for_their_next_try() -> bool:
            return any(row["next_at"] > time.time() + 1 for row in outbox_of(watched.site.state))

        until(wait_for_their_next_try, "a pause before the next try")
        clock.step_to(step)
        server.answer = 200
        courier.wait_for("message_delivered", len(watched.expected), seconds=20)
        assert courier.stop() == 0
        watched.assert_once()


@pytest.mark.parametrize(
    ("work", "step"),
    [
        pytest.param(archiving, -HOUR, id="archiving_an_hour_back"),
        pytest.param(archiving, DAY, id="archiving_a_day_on"),
        pytest.param(delivering, -HOUR, id="delivering_an_hour_back"),
        pytest.param(delivering, DAY, id="delivering_a_day_on"),
    ],
)
def test_case_50_stepped_clock_stalls_nothing(
    tmp_path: Path, work: Callable[[Path, SteppedClock, int], None], step: int
) -> None:
    """Files settle, are archived, given up and announced as before, whatever the wall clock does."""
    work(tmp_path, SteppedClock(tmp_path), step)


@pytest.mark.parametrize(
    ("moment", "name"),
    [
        pytest.param(0, "19700101_000000", id="1970"),
        pytest.param(-DAY, "19691231_000000", id="before_1970"),
        pytest.param(4_102_444_800, "21000101_000000", id="2100"),
    ],
)
def test_case_51_file_of_a_strange_time_is_archived(tmp_path: Path, moment: int, name: str) -> None:
    """A modification time decades off keeps no file waiting, found at the start or heard of later."""
    watched = Watched(tmp_path)
    summaries = [watched.expect(encoded(flat_summary({symbol: GOOD}, timestamp=None))) for symbol in ("EARLY", "LATE")]

    def leave(data: bytes) -> None:
        temporary = watched.site.out / ".temporary"
        temporary.write_bytes(data)
        os.utime(temporary, (moment, moment))
        temporary.rename(watched.site.out / f"{len(data)}.json")

    leave(summaries[0])
    with watched.daemon():
        watched.archived(summaries[0])
        leave(summaries[1])
        early, late = watched.archived(*summaries)
        assert (early["timestamp"], late["timestamp"]) == (name, f"{name}_2")
    watched.assert_once()
