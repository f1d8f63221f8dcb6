"""Cases 17 to 25 of watching: what happened while no daemon ran, or ended one, is made up for by the next.

The rule: every test runs real daemons over the same folder, one after the other, and ends with all that was left held
to "once" (see rigs.watched).
"""

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from invariants import assert_archive_whole, assert_nothing_half_made, assert_second_start_changes_nothing
from modelwarden.service.attempts import DEATHS_ALLOWED
from processes import modelwarden, outbox_of, running_daemon, until
from rigs.launching import kernel_watches, traced, wait_for_strace
from rigs.mutants import Mutant
from rigs.watched import Watched, lock_held
from summaries import encoded, random_summary

pytestmark = pytest.mark.cases

STOPPED_WITHIN: Final = 10.0
"""Seconds that a daemon may take to stop; systemd waits for 90."""


def test_case_17_thousand_summaries_written_while_down_are_one_run_each(tmp_path: Path) -> None:
    """A backlog is worked off at the start, and nothing of it twice."""
    watched = Watched(tmp_path)
    summaries = [watched.summary() for _ in range(1_000)]
    for number, data in enumerate(summaries):
        folder = watched.site.out / f"{number % 10}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.json").write_bytes(data)
    with watched.daemon():
        watched.archived(*summaries)
    watched.assert_once()
    assert_second_start_changes_nothing(watched.site)


def test_case_18_file_half_written_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """A writer that was at work before the daemon is let finish."""
    watched = Watched(tmp_path)
    data = watched.summary()
    path = watched.site.out / "summary.json"
    with path.open("wb", buffering=0) as stream:
        stream.write(data[:200])
        with watched.daemon():
            until(lambda: len(watched.logged("not_ready", path)) >= 2, "two looks at the half")
            stream.write(data[200:])
            watched.archived(data)
            assert watched.logged("summary_rejected", path) == []
    watched.assert_once()


def test_case_19_created_between_the_watch_and_the_scan_is_archived_once(tmp_path: Path) -> None:
    """A file that the watch hears of and the first scan finds as well is one run."""
    watched = Watched(tmp_path)
    report = tmp_path / "strace"
    pause = ("-e", "trace=inotify_add_watch", "-e", "inject=inotify_add_watch:delay_exit=1000000:when=1")
    with watched.daemon(how=traced(report, *pause), ready=None) as daemon:
        wait_for_strace(report, "DELAYED")  # the kernel watches, and the daemon has not gone on to scan
        assert kernel_watches(daemon.process.pid) == 1
        data = watched.summary()
        path = watched.drop(data)
        assert daemon.events("ready") == []
        watched.archived(data)
        watched.caught_up()
        assert len(watched.logged("run_archived", path)) == 1
    watched.assert_once()


KILLS: Final = ["fsync:1", "fsync:4", "fsync:6", "rename,renameat2:1", "rename,renameat2:2", "unlink:1", "pwrite64:3"]
"""Calls on the way of a file, and at which of them the daemon is killed; every one of them is the crash rig's."""


@pytest.mark.parametrize("kill", KILLS)
def test_case_20_killed_at_a_call_on_the_way_leads_to_the_same_archive(tmp_path: Path, kill: str) -> None:
    """SIGKILL amid the walk of three files; the next start completes what was begun and does the rest."""
    calls, _, when = kill.partition(":")
    watched = Watched(tmp_path)
    for number in range(3):
        watched.drop(watched.summary(), f"{number}.json")
    strike = ("-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL:when={when}")
    how = traced(tmp_path / "strace", *strike)
    arguments = ("--once", "--no-courier", "--config", watched.site.config)
    with running_daemon(*arguments, log=watched.site.log, how=how, ready=None) as daemon:
        assert daemon.process.wait(60) == -signal.SIGKILL, "it ended before the call was reached"
    with watched.daemon():
        watched.archived(*watched.expected)
    watched.assert_once()
    assert_second_start_changes_nothing(watched.site)


def test_case_21_deleted_state_is_made_again_without_duplicates(tmp_path: Path) -> None:
    """Without its state file the daemon archives nothing twice, and announces nothing older than the new one."""
    watched = Watched(tmp_path)
    with watched.daemon():
        before = [watched.summary() for _ in range(5)]
        for number, data in enumerate(before):
            watched.drop(data, f"{number}.json")
        watched.archived(*before)
    watched.assert_once()
    shutil.rmtree(watched.site.state)
    watched.forgotten += watched.expected
    with watched.daemon():
        watched.archived(*before)
        after = watched.summary()
        watched.drop(after, "after.json")
        watched.archived(after)
    watched.assert_once()


def delete(index: Path) -> None:
    index.unlink()


def truncate(index: Path) -> None:
    os.truncate(index, index.stat().st_size // 2)


def empty(index: Path) -> None:
    os.truncate(index, 0)


def fill_with(index: Path, data: bytes) -> None:
    index.write_bytes(data)


def fill_with_garbage(index: Path) -> None:
    fill_with(index, b"\xff\x00garbage" * 100)


@pytest.mark.parametrize("damage", [delete, truncate, empty, fill_with_garbage])
def test_case_22_damaged_index_is_rebuilt_byte_for_byte(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Deleted, cut short or overwritten, at rest or beside a running daemon: index.json comes back as it was."""
    watched = Watched(tmp_path)
    index = watched.site.archive / "index.json"
    with watched.daemon():
        first = watched.summary()
        watched.drop(first)
        watched.archived(first)
    whole = index.read_bytes()
    damage(index)
    with watched.daemon():
        assert index.read_bytes() == whole
        damage(index)
        second = watched.summary()
        watched.drop(second, "second.json")
        watched.latest.wait_for("run_archived")
        watched.archived(first, second)
    watched.assert_once()


def test_older_index_put_back_beside_a_daemon_hides_and_doubles_no_run(tmp_path: Path) -> None:
    """A copy of index.json from before is a valid file: what it lacks is neither hidden nor archived again."""
    watched = Watched(tmp_path)
    index = watched.site.archive / "index.json"
    with watched.daemon():
        first, second, third = (watched.summary() for _ in range(3))
        watched.drop(first, "first.json")
        watched.archived(first)
        backup = index.read_bytes()
        watched.drop(second, "second.json")
        watched.archived(second)
        fill_with(index, backup)
        watched.drop(second, "second, copied.json")
        watched.drop(third, "third.json")
        watched.archived(first, second, third)
    watched.assert_once()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_case_23_told_to_stop_under_load_leaves_nothing_half_made(tmp_path: Path, number: signal.Signals) -> None:
    """Amid a burst the batch under way is ended and the exit is clean, in time; the next start archives the rest."""
    watched = Watched(tmp_path)
    for position in range(1_500):
        watched.drop(watched.summary(), f"{position}.json")
    with watched.daemon() as daemon:
        daemon.wait_for("run_archived")
        assert daemon.stop(number, STOPPED_WITHIN) == 0
        assert len(daemon.events("stopped")) == 1
    assert_nothing_half_made(watched.site.archive)
    archived = assert_archive_whole(watched.site.archive)
    assert len(archived) < len(watched.expected), "it had nothing left to do"
    owed = {row["event"] for row in outbox_of(watched.site.state)}
    assert owed == {f"run:{entry['sha256'][:16]}" for entry in archived}
    with watched.daemon():
        watched.archived(*watched.expected)
    watched.assert_once()


def test_case_24_second_daemon_of_a_state_directory_is_refused_by_name(tmp_path: Path) -> None:
    """The second says which directory is in use and exits with 2; the first does not notice."""
    watched = Watched(tmp_path)
    with watched.daemon():
        second = modelwarden("run", "--config", watched.site.config)
        assert second.returncode == 2
        assert f"{watched.site.state}: another modelwarden daemon uses this state directory" in second.stderr
        watched.caught_up()
    watched.assert_once()


POISONOUS: Final = Mutant(
    name="ended by one summary's bytes",
    file="gate/summary.py",
    text="        document = read_object(data)\n",
    by='        document = read_object(data)\n        __import__("os").abort() if "poison" in document else None\n',
)
"""A daemon with a fault that no handler catches, as one in a library written in C is."""

STARTS: Final = 10
"""How often systemd may start it until the file must have been given up."""


@pytest.mark.parametrize("others", [10, 300], ids=["among_a_few", "in_a_backlog"])
def test_case_25_poison_file_in_a_crash_loop_is_rejected_alone(tmp_path: Path, others: int) -> None:
    """Attempts at a file outlive the daemon that it ends: after a few starts it is rejected, and the rest go on."""
    watched = Watched(tmp_path)
    env = {"PYTHONPATH": str(POISONOUS.make(tmp_path / "poisonous"))}
    innocent = [watched.summary() for _ in range(others)]
    poison = watched.rubbish(encoded(random_summary(0) | {"poison": True}))
    for number, data in enumerate([*innocent[: others // 2], poison, *innocent[others // 2 :]]):
        watched.drop(data, f"{number}.json")
    arguments = ("--once", "--no-courier", "--config", watched.site.config)
    codes = []
    for start in range(STARTS):
        with running_daemon(*arguments, log=tmp_path / f"crash-{start}", env=env, ready=None) as daemon:
            codes.append(daemon.process.wait(60))
        if codes[-1] != -signal.SIGABRT:
            break
    assert codes[0] == -signal.SIGABRT
    assert codes[-1] == 1, f"exit codes {codes}: a rejected file is told by 1"
    with watched.daemon(env=env):  # what was given up stays so
        watched.archived(*innocent)
    watched.assert_once()


def test_summary_that_only_waits_for_the_lock_is_blamed_for_no_death(tmp_path: Path) -> None:
    """However often the process is killed while it waits, the summary is good and is archived."""
    watched = Watched(tmp_path)
    with watched.daemon():
        watched.caught_up()
    data = watched.summary()
    for _ in range(2 * DEATHS_ALLOWED):
        with ExitStack() as waiting, watched.daemon() as daemon:
            waiting.enter_context(lock_held(watched.site.archive))
            watched.drop(data)
            until(lambda: list(watched.site.archive.glob(".staging/*/*/recommendations.md")), "the run to be staged")
            daemon.process.kill()
            daemon.process.wait()
            (watched.site.out / "summary.json").unlink()
    watched.drop(data)
    with watched.daemon():
        watched.archived(data)
    watched.assert_once()
