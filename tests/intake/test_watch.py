"""Whatever happens below a root becomes a hint or a rescan; a watch that is lost is noticed and armed again."""

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from watchdog.observers.inotify_c import InotifyFD

from modelwarden.intake.scan import Root
from modelwarden.intake.watch import MAX_HINTS, Watch
from processes import clean_environment, drop, index_of, running_daemon, until
from rigs.launching import kernel_watches
from summaries import encoded, flat_summary


class Listener:
    """A started watch whose hints pile up until a test looks at them."""

    def __init__(self, watch: Watch, rang: threading.Event) -> None:
        self.watch = watch
        self.rang = rang
        self.paths: list[str] = []
        self.rescans = 0

    def look(self) -> None:
        hints = self.watch.drain()
        self.paths += hints.paths
        self.rescans += hints.rescan

    def expect(self, *paths: Path) -> None:
        """Wait until every path was hinted at."""

        def all_there() -> bool:
            self.look()
            return set(map(str, paths)) <= set(self.paths)

        until(all_there, f"hints about {[str(path) for path in paths]}; so far {self.paths}")

    def expect_rescan(self) -> None:
        before = self.rescans

        def told() -> bool:
            self.look()
            return self.rescans > before

        until(told, "to be told to scan everything")

    def settle(self, folder: Path) -> None:
        """Wait for the hint of a file made now: everything that happened before was told by then."""
        last = folder / f"last-{len(self.paths)}.json"
        last.write_bytes(b"")
        self.expect(last)


@contextmanager
def listening(*roots: Root) -> Iterator[Listener]:
    """A watch that is armed, with the rescan that it begins with taken out."""
    rang = threading.Event()
    watch = Watch(roots, rang.set)
    watch.start()
    try:
        listener = Listener(watch, rang)
        listener.look()
        assert listener.rescans == 1
        listener.rescans = 0
        yield listener
    finally:
        watch.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def test_watch_begins_with_a_rescan(root: Path) -> None:
    """What was there before the watch is found by a scan, and the first drain asks for it."""
    watch = Watch([Root(str(root))], lambda: None)
    watch.start()
    try:
        assert watch.drain().rescan is True
        assert watch.drain() == type(watch.drain())([], False)
    finally:
        watch.stop()


def write_and_close(root: Path, _outside: Path) -> Path:
    (root / "a.json").write_bytes(b"{}")
    return root / "a.json"


def rename_within(root: Path, _outside: Path) -> Path:
    (root / "a.txt").write_bytes(b"{}")
    return (root / "a.txt").rename(root / "a.json")


def rename_from_temporary(root: Path, _outside: Path) -> Path:
    (root / ".a.json.tmp").write_bytes(b"{}")
    return (root / ".a.json.tmp").rename(root / "a.json")


def rename_in(root: Path, outside: Path) -> Path:
    (outside / "a.json").write_bytes(b"{}")
    return (outside / "a.json").rename(root / "a.json")


def hard_link_in(root: Path, outside: Path) -> Path:
    (outside / "a.json").write_bytes(b"{}")
    (root / "a.json").hardlink_to(outside / "a.json")
    return root / "a.json"


def write_not_text(root: Path, _outside: Path) -> Path:
    path = Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9\n.json"))
    path.write_bytes(b"{}")
    return path


@pytest.mark.parametrize(
    "happen", [write_and_close, rename_within, rename_from_temporary, rename_in, hard_link_in, write_not_text]
)
def test_new_file_is_hinted_at(root: Path, tmp_path: Path, happen: Callable[[Path, Path], Path]) -> None:
    """However a file comes to its name, its path is told and the main loop is rung for."""
    with listening(Root(str(root))) as listener:
        listener.expect(happen(root, tmp_path))
        assert listener.rang.is_set()
        assert listener.rescans == 0


def test_file_written_to_is_hinted_at_when_it_is_closed(root: Path) -> None:
    """A file that was there already is told of when its writer is done."""
    path = root / "a.json"
    path.write_bytes(b"{")
    with listening(Root(str(root))) as listener, path.open("ab") as stream:
        stream.write(b"}")
        stream.flush()
        listener.settle(root)
        assert str(path) not in listener.paths
        stream.close()
        listener.expect(path)


def test_removed_file_is_hinted_at(root: Path) -> None:
    """A file that goes away is told of, so that nobody waits for it."""
    path = root / "a.json"
    path.write_bytes(b"{}")
    with listening(Root(str(root))) as listener:
        path.unlink()
        listener.expect(path)


def test_temporary_names_give_no_hints(root: Path) -> None:
    """Of a file that is written under a temporary name and renamed only the final name is told."""
    with listening(Root(str(root))) as listener:
        for name in (".a.json", "a.json.tmp", "a.part", "a.json~"):
            (root / name).write_bytes(b"{}")
        (root / "a.json.tmp").rename(root / "a.json")
        listener.settle(root)
        names = {os.path.basename(path) for path in listener.paths}
        assert {name for name in names if not name.startswith("last-")} == {"a.json"}


def test_own_reads_give_no_hints(root: Path) -> None:
    """Reading, listing and looking make no event: otherwise the daemon would keep itself awake."""
    path = root / "a.json"
    path.write_bytes(b"{}")
    with listening(Root(str(root))) as listener:
        for _ in range(20):
            path.read_bytes()
            os.listdir(root)
            os.stat(path)
        listener.settle(root)
        assert str(path) not in listener.paths
        assert str(root) not in listener.paths


def test_new_folders_with_a_file_at_once_are_hinted_at(root: Path) -> None:
    """`mkdir -p a/b/c` and a file in it before anybody could watch it: the file or a folder above it is told."""
    with listening(Root(str(root))) as listener:
        deep = root / "a" / "b" / "c"
        deep.mkdir(parents=True)
        (deep / "x.json").write_bytes(b"{}")
        listener.expect(root / "a")
        listener.settle(deep)


def test_populated_folder_moved_in_is_hinted_at_and_watched(root: Path, tmp_path: Path) -> None:
    """A folder that comes with its files is told of, and so is what is put into it later."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.json").write_bytes(b"{}")
    with listening(Root(str(root))) as listener:
        (tmp_path / "new").rename(root / "new")
        listener.expect(root / "new")
        listener.settle(root / "new")


def test_folder_moved_within_is_told_by_its_new_paths(root: Path) -> None:
    """After a folder was renamed, what happens in it is told under the new name."""
    (root / "old").mkdir()
    with listening(Root(str(root))) as listener:
        (root / "old").rename(root / "new")
        listener.expect(root / "new")
        listener.settle(root / "new")


def test_two_folders_that_change_places_are_told_by_their_new_paths(root: Path) -> None:
    """Each is watched under the name that it has now."""
    for name in ("a", "b"):
        (root / name / "below").mkdir(parents=True)
    with listening(Root(str(root))) as listener:
        (root / "a").rename(root / "c")
        (root / "b").rename(root / "a")
        (root / "c").rename(root / "b")
        listener.settle(root)
        for folder in (root / "a", root / "b", root / "a" / "below", root / "b" / "below"):
            listener.settle(folder)


def test_folder_whose_move_is_not_told_yet_is_watched_under_its_new_name(root: Path) -> None:
    """The kernel knows it by one number, which stands under the old name still; that one is let go later."""
    for name in ("a", "b"):
        (root / name / "below").mkdir(parents=True)
    with listening(Root(str(root))) as listener:
        (arm,) = listener.watch._arms
        with listener.watch._lock:  # the reader can't tell
            (root / "a").rename(root / "c")
            (root / "b").rename(root / "a")
            (root / "c").rename(root / "b")
            arm.renew([str(root / "a")])
        listener.settle(root)
        for folder in (root / "a", root / "b", root / "a" / "below", root / "b" / "below"):
            listener.settle(folder)


def test_folder_that_left_is_not_heard(root: Path, tmp_path: Path) -> None:
    """What happens in a folder that was moved out is nobody's business, and takes no watch."""
    (root / "old" / "below").mkdir(parents=True)
    with listening(Root(str(root))) as listener:
        (root / "old").rename(tmp_path / "moved")
        listener.expect(root / "old")
        (tmp_path / "moved" / "below" / "a.json").write_bytes(b"")
        listener.settle(root)
        assert not any(path.endswith("a.json") for path in listener.paths)


def test_folders_that_a_scan_does_not_enter_are_not_watched(root: Path) -> None:
    """Those under construction, hidden ones and the archive take no watch, however many are in them."""
    archive = root / "archive"
    for folder in (archive / "20240101_000000", root / ".hidden" / "a", root / "run.tmp" / "b"):
        folder.mkdir(parents=True)
    watch = Watch([Root(str(root))], lambda: None, [str(archive)])
    watch.start()
    try:
        assert kernel_watches(os.getpid()) == 1
    finally:
        watch.stop()


def test_root_without_recursion_is_not_watched_below(root: Path) -> None:
    """`recursive = false`: what happens below the root is nobody's business."""
    (root / "below").mkdir()
    with listening(Root(str(root), recursive=False)) as listener:
        (root / "below" / "a.json").write_bytes(b"{}")
        listener.settle(root)
        assert str(root / "below" / "a.json") not in listener.paths


def test_two_roots_are_both_watched(root: Path, tmp_path: Path) -> None:
    """Every configured folder gives hints, overlapping ones too."""
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    with listening(Root(str(root)), Root(str(other)), Root(str(other / "deep"))) as listener:
        for folder in (root, other, other / "deep"):
            listener.settle(folder)


def test_linked_root_gives_hints_by_real_paths(root: Path, tmp_path: Path) -> None:
    """A root that is a symbolic link is resolved first: watching the link itself would hear nothing."""
    link = tmp_path / "link"
    link.symlink_to(root)
    with listening(Root(str(link))) as listener:
        listener.settle(root)


def test_link_turned_round_is_armed_anew(root: Path, tmp_path: Path) -> None:
    """A root whose link points elsewhere now is watched where it points, after a rescan."""
    other = tmp_path / "other"
    other.mkdir()
    link = tmp_path / "link"
    link.symlink_to(root)
    with listening(Root(str(link))) as listener:
        link.unlink()
        link.symlink_to(other)
        assert listener.watch.supervise() is True
        listener.expect_rescan()
        listener.settle(other)


def test_missing_root_is_armed_when_it_appears(root: Path) -> None:
    """A root that is not there yet is waited for; when it appears it is scanned and watched."""
    root.rmdir()
    with listening(Root(str(root))) as listener:
        assert listener.watch.supervise() is False
        root.mkdir()
        (root / "early.json").write_bytes(b"{}")
        assert listener.watch.supervise() is True
        listener.expect_rescan()
        listener.settle(root)


def test_one_missing_root_does_not_keep_the_others_deaf(root: Path, tmp_path: Path) -> None:
    """Every root is armed for itself, whatever the order."""
    with listening(Root(str(tmp_path / "missing")), Root(str(root))) as listener:
        assert listener.watch.supervise() is False
        listener.settle(root)


def arm_again(listener: Listener) -> None:
    """Look after the watch as the main loop does until it has noticed the loss and armed anew."""
    before = listener.rescans

    def armed() -> bool:
        watched = listener.watch.supervise()
        listener.look()
        return watched and listener.rescans > before

    until(armed, "the watch to be armed again after a rescan")


def test_root_deleted_and_made_again_is_armed_anew(root: Path) -> None:
    """A trainer that clears its output folder away and makes it anew is heard again, after a rescan."""
    with listening(Root(str(root))) as listener:
        shutil.rmtree(root)
        root.mkdir()
        arm_again(listener)
        listener.settle(root)


def test_root_that_goes_away_is_noticed(root: Path) -> None:
    """A root that is gone does not count as watched, and a scan is asked for, which finds that nothing is there."""
    with listening(Root(str(root))) as listener:
        root.rmdir()
        until(lambda: not listener.watch.supervise(), "the loss to be noticed")
        listener.expect_rescan()


def test_root_renamed_and_replaced_is_armed_on_the_new_folder(root: Path, tmp_path: Path) -> None:
    """Events of a folder that was moved away are not taken for those of the folder that has its name now."""
    with listening(Root(str(root))) as listener:
        root.rename(tmp_path / "moved")
        root.mkdir()
        arm_again(listener)
        listener.settle(root)
        (tmp_path / "moved" / "a.json").write_bytes(b"{}")
        listener.settle(root)
        assert str(root / "a.json") not in listener.paths


def watchdog_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, InotifyFD)]


def test_thread_of_watchdog_that_ended_is_replaced(root: Path) -> None:
    """It may die of a bug without a word: supervision notices, rescans and arms again."""
    before = set(watchdog_threads())
    with listening(Root(str(root))) as listener:
        (thread,) = set(watchdog_threads()) - before
        thread._stopped_event.set()  # type: ignore[attr-defined]
        (root / "wakes-it-up.json").write_bytes(b"{}")
        thread.join(10)
        assert not thread.is_alive()
        listener.look()
        listener.watch.supervise()
        listener.look()
        assert listener.rescans == 1
        assert listener.watch.losses == 1
        listener.settle(root)


def test_stopped_watch_leaves_no_threads_and_no_descriptors(root: Path) -> None:
    """Arming and taking down leaks nothing, however often the watch is lost."""
    before = set(watchdog_threads())
    descriptors = os.listdir("/proc/self/fd")
    for _ in range(3):
        with listening(Root(str(root))) as listener:
            listener.settle(root)
    until(lambda: not set(watchdog_threads()) - before, "watchdog's threads to end")
    until(lambda: len(os.listdir("/proc/self/fd")) <= len(descriptors), "the descriptors to be given back")


def test_more_paths_than_the_bound_become_a_rescan(root: Path) -> None:
    """The set of paths is bounded: beyond MAX_HINTS the scan is asked for instead, and nothing is kept."""
    with listening(Root(str(root))) as listener:
        for number in range(MAX_HINTS):
            listener.watch.note(f"/x/{number}.json")
        assert len(listener.watch.drain().paths) == MAX_HINTS
        for number in range(MAX_HINTS + 1):
            listener.watch.note(f"/x/{number}.json")
        hints = listener.watch.drain()
        assert hints.rescan is True
        assert hints.paths == []


def test_path_noted_many_times_is_told_once(root: Path) -> None:
    """A file with many events is one hint."""
    with listening(Root(str(root))) as listener:
        for _ in range(MAX_HINTS + 1):
            listener.watch.note("/x/a.json")
        hints = listener.watch.drain()
        assert hints.paths == ["/x/a.json"]
        assert hints.rescan is False


def test_overflow_of_the_kernels_queue_becomes_a_rescan(root: Path) -> None:
    """A real overflow, made by more events than the kernel keeps while nobody reads: noticed, and hints go on."""
    with open("/proc/sys/fs/inotify/max_queued_events") as stream:
        limit = int(stream.read())
    if limit > 200_000:
        pytest.skip(f"fs.inotify.max_queued_events = {limit}: too many events to make")
    libc = ctypes.PyDLL(None)  # holds the interpreter, so that watchdog's reader does not run meanwhile
    path = os.fsencode(root / "a.json")
    interval = sys.getswitchinterval()
    with listening(Root(str(root))) as listener:
        sys.setswitchinterval(1_000.0)
        try:
            for _ in range(limit // 2 + 1_000):
                libc.symlink(b"nowhere", path)
                libc.unlink(path)
        finally:
            sys.setswitchinterval(interval)
        listener.expect_rescan()
        assert listener.watch.overflows == 1
        late = root / "late.json"

        def heard() -> bool:
            late.write_bytes(b"")
            listener.look()
            return str(late) in listener.paths

        until(heard, "hints to go on after the overflow")


def test_daemon_does_not_follow_a_hint_into_a_temporary_folder(root: Path, tmp_path: Path) -> None:
    """What the scan passes by, an event does not bring in either: a folder under construction is left alone."""
    folders = [root / ".building", root / "run.tmp", root / "run~" / "deep"]
    for folder in folders:
        folder.mkdir(parents=True)
    with running_daemon("--watch", root, "--archive", tmp_path / "archive", log=tmp_path / "log") as daemon:
        for number, folder in enumerate(folders):
            drop(encoded(flat_summary(timestamp=f"2024010{number + 1}_000000")), folder)
        drop(encoded(flat_summary(timestamp="20240201_000000")), root, "whole.json")
        until(lambda: "whole.json" in (tmp_path / "log").read_text(), "the finished one to be archived")
        daemon.stop()
    assert [run["timestamp"] for run in index_of(tmp_path / "archive")] == ["20240201_000000"]


def test_daemon_with_overlapping_roots_takes_what_one_of_them_takes(root: Path, tmp_path: Path) -> None:
    """Each root's own patterns and depth count: a file that no root takes in a scan is not taken after an event."""
    (root / "below").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(
        'archive_dir = "archive"\n[[watch]]\npath = "root"\nrecursive = false\n'
        '[[watch]]\npath = "root/below"\npatterns = ["wanted*"]\n'
    )
    with running_daemon("--config", config, log=tmp_path / "log") as daemon:
        drop(encoded(flat_summary(timestamp="20240101_000000")), root / "below", "other.json")
        drop(encoded(flat_summary(timestamp="20240102_000000")), root / "below", "wanted.json")
        until(lambda: "wanted.json" in (tmp_path / "log").read_text(), "what is wanted to be archived")
        daemon.stop()
    assert [run["timestamp"] for run in index_of(tmp_path / "archive")] == ["20240102_000000"]


def test_daemon_with_a_root_inside_the_archive_folder_hears_hints(tmp_path: Path) -> None:
    """`archive_dir = "data"` and a root `data/out`: the nearer of the two decides, for events as it does for scans."""
    root = tmp_path / "data" / "out"
    root.mkdir(parents=True)
    config = tmp_path / "config.toml"
    config.write_text('archive_dir = "data"\n[[watch]]\npath = "data/out"\n[intake]\nscan_every_seconds = 1000.0\n')
    with running_daemon("--config", config, log=tmp_path / "log") as daemon:
        drop(encoded(flat_summary()), root)
        daemon.wait_for("run_archived", seconds=5)


LIMITED: Final = """
import os, sys, time
from modelwarden.intake.scan import Root
from modelwarden.intake.watch import Watch
root, limit, folders_later, limit_later = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
def grant(watches):
    with open("/proc/sys/user/max_inotify_watches", "w") as stream:
        stream.write(watches)
grant(limit)
watch = Watch([Root(root)], lambda: None)
watch.start()
first = watch.supervise()
for number in range(folders_later):
    os.mkdir(f"{root}/later{number}")
grant(limit_later)
end = time.monotonic() + 3
while sys.argv[5] != str(first) and watch.supervise() == first and time.monotonic() < end:
    time.sleep(0.01)
print(first, watch.supervise())
watch.stop()
"""


@pytest.mark.parametrize(
    ("limit", "folders_later", "limit_later", "expected"),
    [
        pytest.param(0, 0, 0, (False, False), id="none"),
        pytest.param(4, 0, 4, (False, False), id="too few"),
        pytest.param(11, 0, 11, (True, True), id="just enough"),
        pytest.param(4, 0, 50, (False, True), id="raised when the operator reads the hint"),
    ],
)
def test_limit_on_watches_is_noticed(
    root: Path, limit: int, folders_later: int, limit_later: int, expected: tuple[bool, bool]
) -> None:
    """A root that is armed counts as watched once the kernel has granted a watch for each of its folders."""
    for number in range(10):
        (root / str(number)).mkdir()
    namespace = ["unshare", "--user", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip("no user name spaces here, so the limit can't be lowered for a process")
    figures = [str(each) for each in (limit, folders_later, limit_later, expected[1])]
    result = subprocess.run(
        [*namespace, sys.executable, "-P", "-c", LIMITED, str(root), *figures],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )
    assert result.stdout.split() == [str(each) for each in expected], result.stderr


def folders_beyond_any_path(top: Path) -> None:
    """Folders in each other, until the innermost can be named from close by alone."""
    folder = os.open(top, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        outer, folder = folder, os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(outer)
    os.close(folder)


def test_folder_that_can_not_be_watched_leaves_the_others_watched(root: Path) -> None:
    """What the kernel refuses one folder is no limit on all: its neighbours give hints, and nobody is to raise one."""
    neighbours = [root / str(number) for number in range(10)]
    for folder in neighbours:
        folder.mkdir()
    folders_beyond_any_path(neighbours[5])
    with listening(Root(str(root))) as listener:
        assert listener.watch.supervise() is True
        listener.expect(*(drop(b"{}", folder) for folder in neighbours))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_folder_that_may_be_listed_alone_leaves_the_others_watched(root: Path) -> None:
    """A trainer's umask may leave the right to read a folder, and not to enter it; what is in it is heard of later."""
    neighbours = [root / str(number) for number in range(10)]
    for folder in neighbours:
        (folder / "below").mkdir(parents=True)
    closed = neighbours.pop()
    closed.chmod(0o400)
    try:
        with listening(Root(str(root))) as listener:
            assert listener.watch.supervise() is True
            listener.expect(*(drop(b"{}", folder / "below") for folder in neighbours))
            closed.chmod(0o700)
            assert listener.watch.supervise() is True
            listener.expect(drop(b"{}", closed / "below"))
    finally:
        closed.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may watch every folder")
def test_root_without_the_right_to_read_is_armed_when_the_right_comes(root: Path) -> None:
    """A root that may not be read does not count as watched, and is armed when it may."""
    root.chmod(0)
    try:
        with listening(Root(str(root))) as listener:
            assert listener.watch.supervise() is False
            root.chmod(0o700)
            arm_again(listener)
            listener.settle(root)
    finally:
        root.chmod(0o700)
