"""Cases 52 to 55 of watching: locks that others hold, daemons that share an archive, answers that are lost.

The rule: an archive belongs to nobody. Who shares it waits for the lock, adds what it has, and believes what is there
rather than what a call reported.
"""

import errno
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from invariants import assert_archive_whole, sha256
from processes import drop, index_of, until
from rigs.mounts import private_mounts
from rigs.refusing_filesystem import ANSWER_LOST, refusing_filesystem
from rigs.watched import Watched, assert_once_among, lock_held

pytestmark = pytest.mark.cases


@pytest.mark.parametrize("when", ["at_the_start", "amid_work"])
def test_case_52_lock_held_for_long_is_waited_for_and_said(tmp_path: Path, when: str) -> None:
    """A daemon that waits in vain says for what, and begins again as often as it takes; then it does what it owes."""
    watched = Watched(tmp_path)
    with watched.daemon():
        watched.caught_up()
    before = list(watched.expected)
    starting = when == "at_the_start"
    said = "waiting_to_start" if starting else "postponed"
    with ExitStack() as waiting:
        if starting:
            waiting.enter_context(lock_held(watched.site.archive))
        with watched.daemon(ready=None if starting else "ready") as daemon:
            if not starting:
                waiting.enter_context(lock_held(watched.site.archive))
            data = watched.summary()
            watched.drop(data)
            for event in daemon.wait_for(said, 1 if starting else 2, seconds=60):
                assert "held by another process" in event["reason"]
                assert str(watched.site.archive / ".index.lock") in event["reason"]
            assert_archive_whole(watched.site.archive, before)
            waiting.close()
            watched.archived(data)
    watched.assert_once()


def sharing(folder: Path, out: Path | None = None) -> Sequence[Watched]:
    """Two that archive to one place, each with a state of its own, over one folder or one each."""
    return [
        Watched(folder / name, out=out, archive=folder / "archive", state_beside=True, reject_after=1)
        for name in ("one", "other")
    ]


def test_case_53_two_daemons_of_one_archive_index_the_runs_of_both(tmp_path: Path) -> None:
    """With folders of their own they write the one index, and it has everything; names that collide are told apart."""
    one, other = sharing(tmp_path)
    with one.daemon(), other.daemon():
        for number in range(60):
            for each in (one, other):  # their timestamps are the same
                each.drop(each.summary(by=each.site.folder.name), f"{number}.json")
        everything = one.expected + other.expected
        until(lambda: len(index_of(tmp_path / "archive")) == len(everything), "all runs in the index")
    assert_once_among(one, other)


@pytest.mark.parametrize("moved", [False, True], ids=["copied_over", "moved"])
@pytest.mark.parametrize("daemons", [1, 2])
def test_older_index_put_back_while_they_run_hides_and_doubles_nothing(
    tmp_path: Path, daemons: int, *, moved: bool
) -> None:
    """A person restores yesterday's index.json over today's: the next run of any daemon makes it anew."""
    both = sharing(tmp_path)[:daemons]
    index, older = tmp_path / "archive" / "index.json", tmp_path / "older.json"
    with ExitStack() as running:
        for each in both:
            running.enter_context(each.daemon())
        for round_ in range(3):
            for each in both:
                known = each.summary(by=each.site.folder.name)
                each.drop(known, f"{round_}-known.json")
                each.archived(known)
                if each is both[0]:
                    shutil.copy2(index, older)
            hidden = both[0].summary(by="hidden")
            both[0].drop(hidden, f"{round_}-hidden.json")
            both[0].archived(hidden)
            if moved:
                older.rename(index)
            else:
                shutil.copy2(older, index)
            for each in both:
                again = each.summary(by=each.site.folder.name)
                each.drop(again, f"{round_}-again.json")
                each.drop(hidden, f"{round_}-twin.json")
                each.archived(again)
            everything = [data for each in both for data in each.expected]
            until(lambda: len(index_of(tmp_path / "archive")) == len(set(everything)), "all runs in the index")  # noqa: B023
    assert_once_among(*both)


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param(0, id="summaries"),
        pytest.param(1, id="malformed"),
    ],
)
def test_case_54_two_daemons_of_one_folder_archive_and_announce_once(tmp_path: Path, malformed: int) -> None:
    """Both see every file; one of them archives it, the other finds it archived, and one message is owed."""
    shared = tmp_path / "out"
    shared.mkdir()
    one, other = sharing(tmp_path, shared)
    with one.daemon(), other.daemon():
        for number in range(60):
            drop(one.summary(), shared, f"{number}.json")
        bad = [drop(one.rubbish(b'{"models": ['), shared, f"bad-{number}.json") for number in range(malformed)]
        one.archived(*one.expected)
        for each in (one, other):
            until(lambda each=each: len(each.known_paths()) == 60 + malformed, "both to know every file")  # type: ignore[misc]
            assert all(len(each.logged("summary_rejected", path)) == 1 for path in bad)
    assert_once_among(one, other)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOENT], ids=["EIO", "ENOENT"])
@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/20240101_000000", id="run"),
        pytest.param("/index.json", id="index"),
    ],
)
def test_case_55_rename_that_failed_though_it_succeeded_is_done(tmp_path: Path, target: str, error: int) -> None:
    """A network file system may lose its answer, or send it twice: what is there counts, and it is there once."""
    (tmp_path / "archive").mkdir()
    with private_mounts() as mounts, refusing_filesystem(mounts, tmp_path / "archive") as disk:
        watched = Watched(tmp_path, mounts=mounts, state_beside=True)
        with watched.daemon() as daemon:
            data = watched.summary(timestamp="20240101_000000")
            disk.refuse((ANSWER_LOST, target, error))
            watched.drop(data)
            until(lambda: daemon.events("postponed") or daemon.events("run_archived"), "the rename to be answered")
            disk.relent()
            (entry,) = watched.archived(data)
            assert entry["timestamp"] == "20240101_000000"
            assert entry["sha256"] == sha256(data)
        watched.assert_once()
