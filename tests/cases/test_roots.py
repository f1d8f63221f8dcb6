"""Cases 36 to 45 of watching: watched folders that come, go, are replaced, linked, unmounted or far away.

And the archive's own disk, which can go and come like theirs.

The rule: mounts are real and private to a test and its daemon (see rigs.mounts). Whatever becomes of a root, it is
said, files that are there are archived once, and what can't be seen is never taken for deleted.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from invariants import contents
from processes import Daemon, drop, index_of, until
from rigs.launching import kernel_watches
from rigs.mounts import PrivateMounts, ext4_image, private_mounts
from rigs.refusing_filesystem import Order, refusing_filesystem
from rigs.watched import Watched

pytestmark = pytest.mark.cases


def some_scans(daemon: Daemon) -> None:
    """Wait until the daemon has walked its folders twice more."""
    daemon.wait_for("scanned", len(daemon.events("scanned")) + 2)


def leave_some(watched: Watched) -> set[str]:
    """Have three files archived; return the paths that the ledger knows by then."""
    for number in range(3):
        watched.drop(watched.summary(), f"{number}.json")
    watched.archived(*watched.expected)
    until(lambda: len(watched.known_paths()) >= len(watched.expected), "the ledger to know them")
    return watched.known_paths()


def test_case_36_root_missing_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """The daemon starts without its folder, says so, and begins when the folder appears."""
    watched = Watched(tmp_path)
    watched.site.out.rmdir()
    with watched.daemon() as daemon:
        (event,) = daemon.wait_for("watch_waits")
        assert event["path"] == str(watched.site.out)
        watched.site.out.mkdir()
        early = watched.summary()
        watched.drop(early)
        watched.archived(early)
        until(watched.hears, "events to be heard")
    watched.assert_once()


def test_case_37_root_deleted_and_made_again_is_watched_again(tmp_path: Path) -> None:
    """A trainer that clears its output folder away and makes it anew is heard as before."""
    watched = Watched(tmp_path)
    with watched.daemon() as daemon:
        leave_some(watched)
        shutil.rmtree(watched.site.out)
        watched.site.out.mkdir()
        data = watched.summary()
        watched.drop(data)
        watched.archived(data)
        daemon.wait_for("watch_lost")
        until(watched.hears, "events to be heard")
    watched.assert_once()


def test_case_38_root_renamed_and_replaced_is_watched_where_its_name_is(tmp_path: Path) -> None:
    """The folder that has the name counts: what is left in the one that was moved away is nobody's business."""
    watched = Watched(tmp_path)
    with watched.daemon() as daemon:
        leave_some(watched)
        moved = watched.site.out.rename(tmp_path / "moved")
        watched.site.out.mkdir()
        data = watched.summary()
        drop(b"not for us", moved, "summary.json")
        watched.drop(data)
        watched.archived(data)
        daemon.wait_for("watch_lost")
        drop(b"not for us", moved, "other.json")
        until(watched.hears, "events to be heard")
        assert daemon.events("not_ready") == []
    watched.assert_once()


def test_case_39_unmounted_root_is_said_and_is_no_mass_deletion(tmp_path: Path) -> None:
    """When the disk goes, the ledger keeps what was on it, however often the folder below the mount is walked."""
    with private_mounts() as mounts:
        watched = Watched(tmp_path, mounts=mounts, scan_every=0.5, state_beside=True)
        mounts.ext4(ext4_image(tmp_path / "disk", 8), tmp_path / "out")
        with watched.daemon() as daemon:
            known = leave_some(watched)
            mounts.unmount(tmp_path / "out")
            (event,) = daemon.wait_for("watch_lost")
            assert event["path"] == str(tmp_path / "out")
            watched.caught_up()  # a file in the folder below the mount is a file in the root
            some_scans(daemon)
            assert watched.known_paths() >= known
        watched.assert_once()


def test_case_40_remounted_root_goes_on_where_it_was(tmp_path: Path) -> None:
    """When the disk is back, nothing on it is archived again, and what was written to it elsewhere is found."""
    with private_mounts() as mounts:
        watched = Watched(tmp_path, mounts=mounts, state_beside=True)
        disk = ext4_image(tmp_path / "disk", 8)
        mounts.ext4(disk, tmp_path / "out")
        with watched.daemon() as daemon:
            known = leave_some(watched)
            mounts.unmount(tmp_path / "out")
            daemon.wait_for("watch_lost")
            elsewhere = tmp_path / "elsewhere"
            elsewhere.mkdir()
            mounts.ext4(disk, elsewhere)
            data = watched.summary()
            drop(data, mounts.seen(elsewhere), "elsewhere.json")
            mounts.unmount(elsewhere)
            mounts.ext4(disk, tmp_path / "out")
            watched.archived(data)
            until(watched.hears, "events to be heard")
            assert watched.known_paths() >= known
        watched.assert_once()


def test_case_41_root_that_is_mounted_over_is_watched_in_its_new_place(tmp_path: Path) -> None:
    """A mount over the root hides it: files in the mount are archived, those below it are neither lost nor repeated."""
    with private_mounts() as mounts:
        watched = Watched(tmp_path, mounts=mounts, state_beside=True)
        with watched.daemon() as daemon:
            known = leave_some(watched)
            mounts.tmpfs(tmp_path / "out")
            over, below = watched.summary(), watched.summary()
            watched.drop(over, "over.json")
            watched.archived(over)
            daemon.wait_for("watch_lost")
            until(watched.hears, "events in the mount to be heard")
            assert watched.known_paths() >= known
            mounts.unmount(tmp_path / "out")
            watched.drop(below, "below.json")
            watched.archived(below)
            daemon.wait_for("watch_lost", 2)
            until(watched.hears, "events below it to be heard again")
        watched.assert_once()


def test_case_42_symlinked_root_is_watched_where_it_points(tmp_path: Path) -> None:
    """A root may be a link, and the link may be turned round while the daemon runs."""
    watched = Watched(tmp_path)
    watched.site.out.rmdir()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    watched.site.out.symlink_to("first")
    with watched.daemon() as daemon:
        data = watched.summary()
        drop(data, tmp_path / "first")
        (entry,) = watched.archived(data)
        assert entry["source"] == str(tmp_path / "first" / "summary.json")
        assert watched.hears()
        (tmp_path / "new").symlink_to("second")
        (tmp_path / "new").rename(watched.site.out)
        turned = watched.summary()
        drop(turned, tmp_path / "second")
        watched.archived(turned)
        daemon.wait_for("watch_lost")
        until(watched.hears, "events to be heard where it points now")
    watched.assert_once()


def test_case_43_loops_of_symlinks_are_not_followed(tmp_path: Path) -> None:
    """Links to folders above, to each other and to the whole disk: a scan ends, and every file has one path."""
    watched = Watched(tmp_path)
    folder = watched.site.out / "folder"
    folder.mkdir()
    (folder / "up").symlink_to("..")
    (watched.site.out / "here").symlink_to(".")
    (watched.site.out / "disk").symlink_to("/")
    (watched.site.out / "one").symlink_to("other")
    (watched.site.out / "other").symlink_to("one")
    early, late = watched.summary(), watched.summary()
    drop(early, folder, "early.json")
    with watched.daemon():
        drop(late, folder, "late.json")
        entries = watched.archived(early, late)
        assert [entry["source"] for entry in entries] == [str(folder / "early.json"), str(folder / "late.json")]
        (watched.site.out / "later").symlink_to(folder)
        watched.caught_up()
        assert watched.known_paths() >= {str(folder / "early.json"), str(folder / "late.json")}
        assert not [path for path in watched.known_paths() if "up" in path or "here" in path or "later" in path]
    watched.assert_once()


def test_case_44_network_file_system_is_scanned(tmp_path: Path) -> None:
    """Where others' writes give no events, it is said, no watch is armed, and their files are found all the same."""
    with private_mounts() as mounts:
        watched = Watched(tmp_path, mounts=mounts, state_beside=True)
        with refusing_filesystem(mounts, tmp_path / "out") as network, watched.daemon() as daemon:
            (event,) = daemon.wait_for("watch_by_scanning")
            assert "fuse" in event["reason"]
            data, half = watched.summary(), watched.summary()
            with (network.below / "half.json").open("wb", buffering=0) as stream:
                stream.write(half[:100])
                drop(data, network.below)  # on another host
                watched.archived(data)
                until(lambda: watched.logged("not_ready", watched.site.out / "half.json"), "the half to be looked at")
                stream.write(half[100:])
            watched.archived(half)
            assert kernel_watches(daemon.process.pid) == 0
        watched.assert_once()


REFUSALS = [
    pytest.param(("readdir", "/folder", errno.EIO), id="list_folder_EIO"),
    pytest.param(("readdir", "/folder", errno.ESTALE), id="list_folder_ESTALE"),
    pytest.param(("readdir", "/", errno.ESTALE), id="list_root_ESTALE"),
    pytest.param(("getattr", "/", errno.ESTALE), id="look_at_root_ESTALE"),
    pytest.param(("getattr", "/folder", errno.EIO), id="look_at_folder_EIO"),
    pytest.param(("getattr", "/folder/summary.json", errno.ESTALE), id="look_at_file_ESTALE"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_case_45_scan_that_saw_a_part_never_prunes_the_ledger(tmp_path: Path, refusal: Order) -> None:
    """While something refuses to be looked at it is said and nothing is forgotten; afterwards all goes on."""
    with private_mounts() as mounts:
        watched = Watched(tmp_path, mounts=mounts, scan_every=0.3, state_beside=True)
        with refusing_filesystem(mounts, tmp_path / "out") as network, watched.daemon() as daemon:
            (network.below / "folder").mkdir()
            drop(watched.summary(), network.below / "folder")
            known = leave_some(watched)
            network.refuse(refusal)
            (event,) = daemon.wait_for("unreadable")
            assert os.strerror(refusal[2]) in event["reason"]
            (network.below / "0.json").unlink()
            some_scans(daemon)
            assert watched.known_paths() >= known
            assert len(daemon.events("unreadable")) == 1
            network.relent()
            until(lambda: len(known - watched.known_paths()) == 1, "the file that was removed to be forgotten")
            drop(watched.summary(), network.below / "folder", "later.json")
            watched.archived(*watched.expected)
        watched.assert_once()


DELETES = 'after_archive = "delete"'
BELOW = ("mount point", "older copy", "mounted over")


def is_gone(path: Path) -> bool:
    """Whether the file is not there any more."""
    return not path.exists()


def has_runs(watched: Watched, count: int) -> bool:
    """Whether the archive has that many runs."""
    return len(index_of(watched.site.archive)) >= count


def disk_gone(mounts: PrivateMounts, watched: Watched, archive: Path, how: str) -> dict[str, str]:
    """Take the archive's disk away while it is in use; return what is in its place."""
    if how == "mounted over":
        mounts.tmpfs(archive)
    else:
        mounts.detach(archive)
    return contents(watched.site.archive)


@contextmanager
def archive_with_a_disk(folder: Path, mib: int) -> Iterator[tuple[PrivateMounts, Watched, Path, Path]]:
    """Mounts, a watched folder, an archive's mount point and the disk for it; at the end all is held to "once"."""
    with private_mounts() as mounts:
        watched = Watched(folder, mounts=mounts, scan_every=0.5, state_beside=True, intake=DELETES)
        archive = folder / "archive"
        archive.mkdir()
        yield mounts, watched, archive, ext4_image(folder / "disk", mib)
        watched.assert_once()


@pytest.mark.parametrize("how", BELOW)
def test_archive_whose_disk_goes_is_waited_for_and_nothing_is_lost(tmp_path: Path, how: str) -> None:
    """Unmounted, with an older copy of the archive below it, or mounted over: not a byte is written in its place."""
    with archive_with_a_disk(tmp_path, 16) as (mounts, watched, archive, disk):
        if how == "older copy":  # of the time before the archive got a disk, and an identity
            older = archive / "20200101_000000"
            older.mkdir()
            (older / "summary.json").write_bytes(b"{}")
        mounts.ext4(disk, archive)
        with watched.daemon() as daemon:
            first = watched.summary()
            watched.drop(first)
            watched.archived(first)
            for times in (1, 2):
                there = disk_gone(mounts, watched, archive, how)
                daemon.wait_for("archive_away", times)
                late = watched.summary()
                path = watched.drop(late, f"late-{times}.json")
                daemon.wait_for("problem_announced", times)
                assert contents(watched.site.archive) == there
                assert path.exists()
                if how == "mounted over":
                    mounts.unmount(archive)
                else:
                    mounts.ext4(disk, archive)
                watched.archived(late)
                until(partial(is_gone, path), "the source to be deleted now")


def test_archive_whose_disk_is_not_mounted_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """The daemon starts on the empty mount point, makes nothing there, and begins when the disk comes."""
    with archive_with_a_disk(tmp_path, 16) as (mounts, watched, archive, disk):
        mounts.ext4(disk, archive)
        with watched.daemon():
            leave_first = watched.summary()
            watched.drop(leave_first, "first.json")
            watched.archived(leave_first)
        mounts.unmount(archive)
        late = watched.summary()
        path = watched.drop(late, "late.json")
        with watched.daemon(ready="archive_away") as daemon:
            daemon.wait_for("problem_announced")
            assert list(archive.iterdir()) == []
            assert path.exists()
            mounts.ext4(disk, archive)
            daemon.wait_for("ready")
            watched.archived(late)


def test_archive_whose_disk_comes_and_goes_has_each_summary_once(tmp_path: Path) -> None:
    """Lazily unmounted at any moment of a batch: nothing lands below, every source is archived before it goes."""
    with archive_with_a_disk(tmp_path, 32) as (mounts, watched, archive, disk):
        mounts.ext4(disk, archive)
        with watched.daemon() as daemon:
            for turn in range(6):
                for number in range(20):
                    watched.drop(watched.summary(), f"{turn}-{number}.json")
                until(partial(has_runs, watched, turn * 20 + 1), "some to be archived")
                mounts.detach(archive)
                daemon.wait_for("archive_away", turn + 1)
                assert contents(watched.site.archive) == {}
                mounts.ext4(disk, archive)
                watched.archived(*watched.expected)
