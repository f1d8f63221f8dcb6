"""A small ext4 that is really full, with the archive and the state on it, and room for a little more at every try.

The rule: wherever the room ends, nothing half made shows and nothing is acknowledged; the daemon says that it is room
that it wants, and with room it archives everything once.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from rigs.crash_scenes import SCENES, Place, Scene, scratch
from rigs.crash_subject import Report
from rigs.lives import subjects
from rigs.mounts import ext4_image, private_mounts
from rigs.mutants import PACKAGE

pytestmark = pytest.mark.crash

Tried = Callable[[str, int], None]

MEBIBYTES: Final = 8
BLOCK: Final = 4096
"""Bytes, as on a large disk. With blocks smaller than a page of memory, SQLite may die of SIGBUS where there is no
room: it makes sure of one block for each page of the memory that it shares with other processes."""

TRIES: Final = 3


class SmallDisk:
    """A place on a small disk.

    Args:
        place: whose archive and state are on it.
        ballast: the path of the file that fills it.
    """

    def __init__(self, place: Place, ballast: Path) -> None:
        self.place = place
        self._ballast = ballast

    def fill(self, spare: int) -> None:
        """Leave so many blocks free."""
        with self._ballast.open("wb", buffering=0) as stream:
            for size in (1 << 16, BLOCK):
                with suppress(OSError):
                    while stream.write(bytes(size)):
                        continue
            stream.truncate(max(0, stream.tell() - spare * BLOCK))
            os.fsync(stream.fileno())

    def make_room(self) -> None:
        """Give all of it back."""
        self._ballast.unlink()


@contextmanager
def small_disk(scene: Scene) -> Iterator[SmallDisk]:
    """A new file system, and the scene on it."""
    with scratch() as folder, private_mounts() as mounts:
        mount = folder / "mount"
        mount.mkdir()
        mounts.ext4(ext4_image(folder / "image", MEBIBYTES, "-b", str(BLOCK)), mount)
        with subjects(PACKAGE.parent, how=mounts.how) as lives:
            disk = mount / "disk"
            place = Place(folder, lives, (disk, mounts.seen(disk)))
            place.host("host", list(dict.fromkeys(scene.files)))
            scene.prepare(place)
            place.keep()
            yield SmallDisk(place, mounts.seen(mount / "ballast"))


def live_on(disk: SmallDisk, scene: Scene, spare: int) -> Report | None:
    """A life on a disk that is full but for so many blocks, until it wants room; then it is given all of it.

    Returns what it told, or None where it never wanted any.
    """
    place = disk.place
    place.put_back()
    orders = place.hosts[0].orders(*scene.batches, stops=[scene.stop, "again"], tries=TRIES)
    with place.lives.life(orders) as life:
        life.stopped_at(scene.stop)
        disk.fill(spare)
        try:
            life.go_on()
            report = life.end_or_stop("again")
        finally:
            disk.make_room()
        if report is None:
            place.assert_as_left()
            life.go_on()
            report = life.end()
            assert report is not None
            assert report.dealt == [path for batch in orders.batches for path in batch]
    assert not report.unforeseen, report.unforeseen
    return report if report.ended or report.told() else None


@pytest.mark.parametrize(
    ("name", "most", "step"), [("a_file", 40, 1), ("three_files", 60, 2), ("first_start_and_a_file", 80, 2)]
)
def test_wherever_the_room_ends_all_is_archived_once_when_there_is_room(
    tried: Tried, name: str, most: int, step: int
) -> None:
    """From no block to more than enough: what had no room is begun again from the source."""
    scene = SCENES[name]
    with small_disk(scene) as disk:
        outcomes = []
        for spare in range(0, most, step):
            report = live_on(disk, scene, spare)
            outcomes.append(report is not None)
            if report is not None:
                told = " ".join([report.ended, *(str(event.get("reason")) for event in report.told())])
                assert "make room" in told or "full" in told, told
            disk.place.assert_recovers()
        assert outcomes[0], "a full disk was no trouble"
        assert not outcomes[-1], "the most room was not enough: not every place was tried"
        tried("full disk: points", len(outcomes))
