"""Every call of a walk and of a start refused once: no space, no quota, a broken disk, no right, an interruption.

The rule: a refusal costs a pause, never a run. The daemon lives on and says where what was refused; it begins again
from the source, never syncing a file a second time whose first sync failed; and in the end everything is archived once.
Only a start may end instead, with a sentence that says where; the next one does what is owed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from invariants import (
    assert_archive_whole,
    assert_nothing_half_made,
    assert_owed_once,
    assert_second_start_changes_nothing,
)
from processes import drop, index_of, make_site, running_daemon, until
from rigs.crash_scenes import SCENES, TEAM, Violations, playing
from rigs.lives import Subjects
from rigs.refusals import TRIES, assert_survives, can_be_refused, of_the_state
from rigs.system_calls import Point, Seen, refusing, seen, traced
from summaries import encoded, random_summary

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400)]

Tried = Callable[[str, int], None]

ALL: Final = ("ENOSPC", "EIO", "EDQUOT", "EMFILE", "EACCES", "EINTR")


def not_of_the_state(call: Seen) -> bool:
    return not of_the_state(call)


def anything(_call: Seen) -> bool:
    return True


class Sweep(NamedTuple):
    """Which calls of a scene are refused how.

    Attributes:
        scene: its name.
        errors: each is one test.
        covers: the calls.
    """

    scene: str
    errors: Sequence[str]
    covers: Callable[[Seen], bool]


SWEEPS: Final = (
    Sweep("a_file", ALL, anything),
    Sweep("three_files", ("ENOSPC", "EIO", "EINTR"), not_of_the_state),
    Sweep("no_summary", ("ENOSPC", "EIO"), anything),
    Sweep("first_start_and_a_file", ALL, not_of_the_state),
    Sweep("first_start_and_a_file", ("ENOSPC", "EIO"), of_the_state),
    Sweep("start_after_staging", ("EIO", "EACCES"), not_of_the_state),
    Sweep("start_after_renames", ("ENOSPC", "EIO", "EMFILE", "EACCES", "EINTR"), not_of_the_state),
)


@pytest.mark.parametrize(
    ("sweep", "error"),
    [
        pytest.param(sweep, error, id=f"{sweep.scene}-{sweep.covers.__name__}-{error}")
        for sweep in SWEEPS
        for error in sweep.errors
    ],
)
def test_any_call_refused_once_costs_no_run(lives: Subjects, tried: Tried, sweep: Sweep, error: str) -> None:
    """Whatever is refused, and why: the same life, or the next start, archives all of it once."""
    scene = SCENES[sweep.scene]
    with playing(scene, lives) as place:
        calls = [call for call in place.calls_of(scene.orders(place)) if can_be_refused(call) and sweep.covers(call)]
        violations = Violations()
        for call in calls:
            with violations.at(call):
                assert_survives(place, scene, call, error)
        violations.assert_none()
        tried("errno sweep: points", len(calls))


TOLD_WITH: Final = ("ENOSPC", "EIO", "EDQUOT", "EMFILE", "EACCES")
"""Errors that an operator can do something about."""

REFUSED: Final[dict[str, tuple[str, str]]] = {
    "a_staged_folder": ("mkdir", "/.staging/"),
    "a_staged_file": ("openat", "/recommendations.md"),
    "the_beginning_of_a_sync": ("sync_file_range", "/summary.json"),
    "the_name_of_a_run": ("renameat2", "/archive/2"),
    "the_archive": ("fsync", "/archive"),
    "the_index": ("pwrite64", "/index.json"),
    "the_lock": ("flock", "/.index.lock"),
    "the_marker": ("openat", "/.index.dirty"),
    "the_state": ("pwrite64", "/modelwarden.sqlite-wal"),
}
"""Where a walk can be refused: the call, and a part of the path."""


@pytest.mark.parametrize("what", REFUSED)
def test_refusal_is_told_with_what_to_do(lives: Subjects, what: str) -> None:
    """The warning says where, what, and what the operator can do about it."""
    name, part = REFUSED[what]
    scene = SCENES["a_file"]
    with playing(scene, lives) as place:
        calls = place.calls_of(scene.orders(place))
        point = next(call.point for call in calls if call.point.call == name and part in call.path)
        for error in TOLD_WITH:
            place.put_back()
            orders = scene.orders(place, tries=TRIES)
            report = place.refuse(orders, point, error)
            reasons = [event["reason"] for event in report.told() if event["event"] == "postponed"]
            if (what, error) == ("the_lock", "EACCES"):  # some systems say so of a lock that is held: it is waited for
                assert (reasons, report.dealt) == ([], [path for batch in orders.batches for path in batch])
                continue
            reason = reasons[0]
            where, _, hint = [*reason.split(": ", 2), "", ""][:3]
            assert where.startswith(str(place.archive)), f"{error}: {reason}"
            assert hint, f"{error}: {reason}"


def test_start_without_room_is_told_as_such(lives: Subjects) -> None:
    """Who starts it on a full disk is told of the disk, not to move the state file away."""
    scene = SCENES["first_start_and_a_file"]
    with playing(scene, lives) as place:
        calls = [call for call in place.calls_of(scene.orders(place)) if call.point.call == "pwrite64"]
        place.put_back()
        report = place.refuse(scene.orders(place), calls[0].point, "ENOSPC")
        told = report.ended or str(report.told())
        assert "room" in told, told
        assert "damaged" not in told, told


class Sample(NamedTuple):
    """A refusal that a running daemon meets.

    Attributes:
        point: counted from the file's arrival.
        error: what the call ends with.
        told: a part of the warning; "" where nothing need be told, for nothing is missing.
    """

    point: Point
    error: str
    told: str


SAMPLES: Final = (
    Sample(Point("mkdir", 1), "EDQUOT", "make room in the quota"),
    Sample(Point("fsync", 1), "EIO", "storage suspect"),
    Sample(Point("fsync", 4), "ENOSPC", "make room"),
    Sample(Point("fsync", 5), "EIO", "storage suspect"),
    Sample(Point("renameat2", 1), "EACCES", "the right to read and write"),
    Sample(Point("renameat2", 2), "EIO", "storage suspect"),
    Sample(Point("flock", 1), "EIO", "can't lock"),
    Sample(Point("fdatasync", 1), "EIO", "the state file refused"),
    Sample(Point("fsync", 2), "EINTR", ""),
    Sample(Point("sync_file_range", 1), "EIO", "storage suspect"),
    Sample(Point("sync_file_range", 2), "EBADMSG", "storage suspect"),
    Sample(Point("sync_file_range", 3), "ENOSPC", "make room"),
    Sample(Point("sync_file_range", 1), "EPERM", ""),
)


def test_running_daemon_outlives_one_refusal_after_the_other(tmp_path: Path, tried: Tried) -> None:
    """One process meets them all: it tells of each, and has every file archived once in the end."""
    site = make_site(tmp_path, TEAM)
    expected = []
    with running_daemon("--no-courier", "--config", site.config, log=site.log) as daemon:
        for number, sample in enumerate(SAMPLES):
            data = encoded(random_summary(number, models=3, points=4))
            expected.append(data)
            told = len(daemon.events("postponed"))
            report = tmp_path / f"strace-{number}"
            with traced(daemon.process.pid, report, inject=refusing(sample.point, sample.error)):
                drop(data, site.out, f"{number}.json")
                until(lambda: len(index_of(site.archive)) == len(expected), f"{sample} to be got over")
                daemon.wait_for("run_archived", len(expected))
            assert [call for call in seen(report) if call.injected], f"{sample} was never met"
            reasons = [event["reason"] for event in daemon.events("postponed")[told:]]
            assert bool(reasons) == bool(sample.told), reasons
            assert all(sample.told in reason for reason in reasons), reasons
            tried("errno sweep, a running daemon: points", 1)
        assert_archive_whole(site.archive, expected)
        assert_owed_once(site, "team", expected)
        assert daemon.events("batch_failed") == []
        assert daemon.stop() == 0
    assert_nothing_half_made(site.archive)
    assert_second_start_changes_nothing(site)
