"""Two daemons on one archive, one of them killed, let go on, or refused something at every call of its walk.

The rule: what `rigs.two_daemons` holds them to, at every call and however the two come together.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from commands import command
from invariants import sha256
from processes import index_of, running_daemon, until
from rigs.crash_scenes import ALONE, Place, Violations, file
from rigs.crash_subject import Orders
from rigs.lives import Subjects
from rigs.refusals import can_be_refused, of_the_state
from rigs.system_calls import Point, Seen, killing, traced
from rigs.two_daemons import End, Pair, goes_on, killed, pair

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400)]

Tried = Callable[[str, int], None]


class Meeting(NamedTuple):
    """How the two come together.

    Attributes:
        root: the neighbour's folder: the victim's is "out".
        starts: whether the neighbour starts while the victim stands still.
        end: what becomes of the victim.
        step: every which point is tried.
        shards: into how many tests the points are dealt.
    """

    root: str
    starts: bool
    end: End
    step: int
    shards: int


MEETINGS: Final = {
    "folders_of_their_own": Meeting("other", False, killed, 1, 2),
    "one_folder": Meeting("out", False, killed, 2, 1),
    "one_folder_and_the_first_goes_on": Meeting("out", False, goes_on, 1, 2),
    "one_folder_and_the_other_starts": Meeting("out", True, killed, 3, 1),
}


@pytest.mark.parametrize(
    ("meeting", "shard"), [(name, shard) for name, meeting in MEETINGS.items() for shard in range(meeting.shards)]
)
def test_daemon_stopped_after_any_call_beside_another_breaks_nothing(
    lives: Subjects, tried: Tried, meeting: str, shard: int
) -> None:
    """No duplicate, no lock that stays, nothing half made by the living one; the dead one's next start clears up."""
    root, starts, end, step, shards = MEETINGS[meeting]
    with pair(lives, root=root) as both:
        calls = both.place.calls_of(both.walk())[shard * step :: shards * step]
        violations = Violations()
        for call in calls:
            with violations.at(call):
                both.place.put_back()
                both.play(call.point, end, starts=starts)
        violations.assert_none()
        tried("two daemons: points", len(calls))


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("root", ["other", "out"], ids=["folders_of_their_own", "one_folder"])
def test_two_daemons_and_one_refused_any_call_archive_everything_once(
    lives: Subjects, tried: Tried, root: str, error: str
) -> None:
    """What one could not finish the other does; the one then knows of it, and archives nothing again."""
    with pair(lives, root=root) as both:
        tried("two daemons, one refused: points", refused_at_every_call(both, both.walk(), both.refuse, error))


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("root", ["other", "out"], ids=["folders_of_their_own", "one_folder"])
def test_daemon_refused_any_call_of_its_start_archives_nothing_twice(
    lives: Subjects, tried: Tried, root: str, error: str
) -> None:
    """It had died in a commit; the other finishes that while it pauses in its start: all is archived, and once."""
    with pair(lives, root=root) as both:
        both.leave_half_a_commit()
        points = refused_at_every_call(both, both.start(), both.refuse_start, error)
        tried("two daemons, one refused at its start: points", points)


def refused_at_every_call(both: Pair, orders: Orders, refuse: Callable[[Point, str], None], error: str) -> int:
    """Refuse each call that a disk could refuse of a life with these orders; how many there were."""
    calls = [call for call in both.place.calls_of(orders) if can_be_refused(call) and not of_the_state(call)]
    violations = Violations()
    for call in calls:
        with violations.at(call):
            both.place.put_back()
            refuse(call.point, error)
    violations.assert_none()
    return len(calls)


def test_run_that_is_pruned_while_another_daemon_has_it_staged_stays_away(lives: Subjects, tried: Tried) -> None:
    """One stands still before it takes the lock; the other archives the same file, and a person prunes all of it."""
    with pair(lives, root="out") as both:
        place, neighbour = both.place, both.neighbour
        staged = [call.point for call in place.calls_of(both.walk()) if syncs_a_report(call)][-1]
        place.put_back()
        with place.halted(both.walk(), staged) as victim:
            place.live(neighbour.orders(ALONE))
            assert sha256(file(ALONE[0])) in digests(place)
            pruned = command("prune", "--keep-within", "1s", "--config", neighbour.site.config)
            assert pruned.code == 0, pruned.err
            victim.let_run()
            place.assert_dealt(both.walk(), victim.end())
        assert digests(place) == set()
        for host in place.hosts:
            place.live(host.orders(ALONE))
            assert digests(place) == set()
            place.assert_index_is_true()
            verified = command("verify", "--config", host.site.config)
            assert verified.code == 0, verified.out
        place.assert_nothing_half_made()
        tried("two daemons: points", 1)


def syncs_a_report(call: Seen) -> bool:
    return call.point.call == "fsync" and call.path.endswith("/recommendations.md")


def digests(place: Place) -> set[str]:
    """The bytes that index.json lists."""
    return {each["sha256"] for each in index_of(place.archive)}


def test_daemon_killed_in_a_burst_beside_another_loses_nothing(lives: Subjects, tried: Tried, tmp_path: Path) -> None:
    """Two real processes, one folder: one goes on over the other's death, whose next start is clean; nothing twice."""
    with pair(lives, root="out") as both:
        place = both.place
        with ExitStack() as stack:
            victim, neighbour = (
                stack.enter_context(
                    running_daemon("--no-courier", "--config", host.site.config, log=tmp_path / f"log-{number}")
                )
                for number, host in enumerate(place.hosts)
            )
            point = Point("renameat2", 2)  # the index, after a run got its name
            stack.enter_context(traced(victim.process.pid, place.report, inject=killing(point)))

            def leave_more() -> bool:
                files = len(both.victim.files)
                place.leave([f"burst-{files + number}.json" for number in range(3)])
                return victim.process.poll() is not None

            until(leave_more, "the first to be killed in a commit of its own")
            neighbour.wait_for("run_archived")
            assert neighbour.events("postponed") == []

            def all_are_listed() -> bool:
                return digests(place) == {sha256(file(name)) for name in both.victim.files}

            until(all_are_listed, "the neighbour to archive all of it")
            assert neighbour.stop() == 0
        place.assert_index_is_true()
        place.assert_recovers()
        tried("two daemons: points", 1)
