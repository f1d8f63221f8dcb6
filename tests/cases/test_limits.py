"""Cases 26 to 35 of watching: more files than the kernel tells of, watches that run out, threads that die, leaks.

The rule: the events are real and so are their losses (a daemon that is stopped meanwhile, a limit of the kernel's, a
thread ended by an error); what was lost comes by a scan, long before the timer, and the loss is said.
"""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from modelwarden.intake.watch import MAX_HINTS
from processes import drop, until
from rigs.launching import kernel_watches, stop_tracing, traced, with_inotify_limits
from rigs.mounts import private_mounts
from rigs.mutants import Mutant
from rigs.watched import Watched, lock_held, watching

pytestmark = pytest.mark.cases

FILES: Final = 100_000
"""Files that are made while the daemon works."""

DISTINCT: Final = 20_000
"""How many of them differ. The others are copies: an event, a read and a row in the ledger each, and no run."""


def one_model(number: int) -> bytes:
    """A summary of one model, with a timestamp of its own."""
    timestamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime(number)).encode()
    metrics = b'"final_fitness": 0.9, "final_pf": 2.0, "final_consistency": 0.9, "final_max_dd": 0.05'
    return b'{"timestamp": "%s", "models": [{"symbol": "A", %s}]}' % (timestamp, metrics)


@contextmanager
def in_memory(folder: Path) -> Iterator[Watched]:
    """A watched folder in memory where that can be mounted: made faster than it is read, so the queue overflows."""
    if os.geteuid() != 0:
        yield Watched(folder)
        return
    with private_mounts() as mounts:
        for name in ("out", "archive"):
            (folder / name).mkdir()
            mounts.tmpfs(folder / name)
        yield Watched(folder, mounts=mounts, state_beside=True)


def write_directly(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def rename_from_temporary(data: bytes, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.rename(path)


def flood(watched: Watched, arrive: Callable[[bytes, Path], None]) -> None:
    """Make FILES files as fast as it goes while the daemon works; each is known, each summary is one run."""
    summaries = [watched.expect(one_model(number)) for number in range(DISTINCT)]
    with watched.daemon() as daemon:
        for number in range(FILES):
            arrive(summaries[number % DISTINCT], watched.site.out / f"{number}.json")
        with closing(sqlite3.connect(watched.site.state / "modelwarden.sqlite")) as state:

            def all_known() -> bool:
                assert daemon.process.poll() is None, daemon.log.read_text()
                (count,) = state.execute("SELECT count(*) FROM files").fetchone()
                time.sleep(0.2)  # counting them costs the daemon time
                return bool(count == FILES)

            until(all_known, f"{FILES} files to be known", seconds=400)
        assert daemon.stop() == 0
    watched.assert_once()


@pytest.mark.timeout(600)
def test_case_26_hundred_thousand_direct_writes_are_all_dealt_with_once(tmp_path: Path) -> None:
    """Written faster than the kernel's queue is read: every file is known in the end, every summary one run."""
    with in_memory(tmp_path) as watched:
        flood(watched, write_directly)


@pytest.mark.timeout(600)
def test_case_27_hundred_thousand_renames_are_all_dealt_with_once(tmp_path: Path) -> None:
    """Renamed from temporaries faster than the kernel's queue is read: every file is known, every summary one run."""
    with in_memory(tmp_path) as watched:
        flood(watched, rename_from_temporary)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """While entered, the process does not run."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def make_noise(folder: Path, events: int) -> None:
    """Make that many events about as many names, of nothing that anybody waits for."""
    for number in range(events):
        (folder / f"noise-{number}").symlink_to("nowhere")


def overflow_the_kernels_queue(watched: Watched) -> None:
    """More events than the kernel keeps for one reader, while the daemon does not run."""
    with frozen(watched.latest.process.pid):
        make_noise(watched.site.out, int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) + 100)
        leave_in_new_folder(watched)
    (event,) = watched.latest.wait_for("events_lost")
    assert event["overflows"] == 1


def overflow_the_daemons_set(watched: Watched) -> None:
    """More paths than the daemon keeps apart, while its main thread waits for the lock."""
    watched.caught_up()
    with lock_held(watched.site.archive):
        watched.drop(watched.summary(), "waits.json")
        until(lambda: list(watched.site.archive.glob(".staging/*/*/summary.json")), "the main thread to want the lock")
        leave_in_new_folder(watched)
        make_noise(watched.site.out, MAX_HINTS + 100)
    assert watched.latest.events("events_lost") == []


def leave_in_new_folder(watched: Watched) -> None:
    """A summary that only a scan finds: the events of its folder and of itself are lost."""
    (watched.site.out / "new").mkdir()
    drop(watched.summary(), watched.site.out / "new")


@pytest.mark.parametrize(
    "overflow", [overflow_the_kernels_queue, overflow_the_daemons_set], ids=lambda each: each.__name__
)
def test_case_28_overflow_is_counted_and_starts_a_scan(tmp_path: Path, overflow: Callable[[Watched], None]) -> None:
    """What comes while a queue is full is found at once by a scan, and folders made meanwhile are watched."""
    with watching(tmp_path) as watched:
        overflow(watched)
        watched.archived(*watched.expected)
        until(lambda: kernel_watches(watched.latest.process.pid) == 2, "the new folder to be watched")
        drop(watched.summary(), watched.site.out / "new", "later.json")
        watched.archived(*watched.expected)


HANDLER_RAISES: Final = Mutant(
    name="a handler that raises",
    file="intake/watch.py",
    text="            self._watch.note(path)\n",
    by='            assert "raise" not in path\n            self._watch.note(path)\n',
)

READER_DIES: Final = ("-P", "anon_inode:inotify", "-e", "trace=read", "-e", "inject=read:error=EIO:when=1")
"""The thread that reads the kernel's queue meets an error that it does not handle."""


@pytest.mark.parametrize("fault", ["handler_raises", "reader_dies"])
def test_case_29_dead_thread_of_the_observer_is_noticed_and_rebuilt(tmp_path: Path, fault: str) -> None:
    """Whichever of watchdog's threads an error ends: it is said, what came meanwhile is found, events go on."""
    watched = Watched(tmp_path)
    dies = fault == "reader_dies"
    how = traced(tmp_path / "strace", *READER_DIES) if dies else ()
    env = None if dies else {"PYTHONPATH": str(HANDLER_RAISES.make(tmp_path / "raising"))}
    with watched.daemon(how=how, env=env) as daemon:
        missed = watched.summary()
        watched.drop(missed, "raise.json")
        watched.archived(missed)
        daemon.wait_for("watch_lost")
        if dies:
            stop_tracing(daemon.process.pid)  # every new thread would meet the error
        until(watched.hears, "events to be heard again")
        assert daemon.events("watch_armed")[1:]
    watched.assert_once()


@pytest.mark.parametrize(
    ("watches", "instances", "folders", "later", "said"),
    [
        pytest.param(4, None, 9, 0, "watch_incomplete", id="watches_too_few_at_the_start"),
        pytest.param(0, None, 9, 0, "watch_refused", id="no_watches_at_all"),
        pytest.param(None, 0, 9, 0, "watch_refused", id="no_instances"),
        pytest.param(4, None, 0, 9, "watch_incomplete", id="watches_too_few_later"),
    ],
)
def test_case_30_limit_on_inotify_is_said_and_scanning_goes_on(
    tmp_path: Path, watches: int | None, instances: int | None, folders: int, later: int, said: str
) -> None:
    """Where the kernel refuses a watch, or an instance, at the start or later, files are found by scanning."""
    watched = Watched(tmp_path)
    for number in range(folders):
        (watched.site.out / f"{number}").mkdir()
    with watched.daemon(how=with_inotify_limits(watches=watches, instances=instances)) as daemon:
        if later:
            for number in range(later):
                (watched.site.out / f"{number}").mkdir()
            watched.caught_up()  # whatever the folders' own events led to is over
        for number in range(folders + later):
            drop(watched.summary(), watched.site.out / f"{number}")
        watched.archived(*watched.expected)
        (event, *again) = daemon.wait_for(said)
        assert "max_user" in event["hint"]
        assert again == []
    watched.assert_once()


def test_case_31_folders_made_with_a_file_at_once_are_archived_once(tmp_path: Path) -> None:
    """`mkdir -p a/b/c` and a file in it before anybody could watch it, thirty times over."""
    with watching(tmp_path) as watched:
        for number in range(30):
            deep = watched.site.out / f"{number}" / "a" / "b" / "c"
            deep.mkdir(parents=True)
            (deep / "summary.json").write_bytes(watched.summary())
        watched.archived(*watched.expected)


def test_case_32_populated_folder_moved_in_is_archived_and_watched(tmp_path: Path) -> None:
    """What a folder brings along is archived, and so is what is put into it later, at any depth."""
    with watching(tmp_path) as watched:
        outside = tmp_path / "outside"
        (outside / "deep").mkdir(parents=True)
        for folder in (outside, outside / "deep"):
            drop(watched.summary(), folder, "before.json")
        inside = outside.rename(watched.site.out / "inside")
        watched.archived(*watched.expected)
        for folder in (inside, inside / "deep"):
            drop(watched.summary(), folder, "after.json")
        watched.archived(*watched.expected)


def test_case_33_watched_folder_moved_out_is_no_longer_heard_of(tmp_path: Path) -> None:
    """What is left in a folder after it was moved away is nobody's business, and a new one of its name is watched."""
    with watching(tmp_path) as watched:
        folder = watched.site.out / "folder"
        folder.mkdir()
        drop(watched.summary(), folder, "inside.json")
        watched.archived(*watched.expected)
        outside = folder.rename(tmp_path / "outside")
        drop(b"not for us", outside, "outside.json")
        watched.caught_up()
        folder.mkdir()
        drop(watched.summary(), folder, "again.json")
        drop(b"not for us", outside, "again.json")
        watched.archived(*watched.expected)
        assert watched.logged("not_ready", folder / "again.json") == []


def used(pid: int) -> dict[str, int]:
    """What a process holds: descriptors, threads, watches, memory in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status.partition("Threads:")[2].split()[0]),
        "watches": kernel_watches(pid),
        "memory": int(status.partition("VmRSS:")[2].split()[0]) >> 10,
    }


def test_case_34_subfolder_made_and_removed_often_leaks_nothing(tmp_path: Path) -> None:
    """Three thousand folders that come and go cost no descriptor, no thread, no watch and no memory for good."""
    with watching(tmp_path) as watched:

        def come_and_go(times: int) -> dict[str, int]:
            for number in range(times):
                folder = watched.site.out / f"{number}"
                folder.mkdir()
                (folder / "below").mkdir()
                shutil.rmtree(folder)
            watched.caught_up()
            until(
                lambda: kernel_watches(watched.latest.process.pid) == 1, "the watches of what is gone to be given back"
            )
            return used(watched.latest.process.pid)

        before = come_and_go(300)
        after = come_and_go(3_000)
        assert after["memory"] - before.pop("memory") < 8, after
        assert {name: after[name] for name in before} == before


def test_case_35_own_reads_and_writes_do_not_wake_the_daemon(tmp_path: Path) -> None:
    """Reading, scanning and archiving inside the watched folder feed no events back: at rest it stays at rest."""
    watched = Watched(tmp_path, watch='[[watch]]\npath = "."\n', scan_every=0.5)
    with watched.daemon() as daemon:
        for number in range(20):
            watched.drop(watched.summary(), f"{number}.json")
        watched.archived(*watched.expected)

        def reads() -> int:
            """How often it read anything: its own wake-ups and watchdog's reader included."""
            text = Path(f"/proc/{daemon.process.pid}/io").read_text()
            return int(text.partition("syscr:")[2].split()[0])

        scans, before = len(daemon.events("scanned")), reads()
        daemon.wait_for("scanned", scans + 6)
        assert reads() - before < 30
    watched.assert_once()
