"""SIGKILL before every call between a file that is ready and a state that is committed, and at every change of a start.

The rule: whatever a killed daemon leaves shows nobody anything half made or claimed too early, and the next start leads
to the same archive as if nothing had happened: nothing lost, nothing twice, every message owed once.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import pytest

from invariants import assert_second_start_changes_nothing
from processes import modelwarden
from rigs.crash_scenes import SCENES, Place, Violations, playing
from rigs.crash_subject import Orders
from rigs.lives import Subjects
from rigs.system_calls import Point, Seen, killing, was_killed

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400)]

Tried = Callable[[str, int], None]

SHARDS: Final = {
    "a_file": 2,
    "a_file_without_the_spare": 2,
    "three_files": 3,
    "no_summary": 2,
    "first_start_and_a_file": 3,
}
"""Into how many tests the points of a walk are dealt; each takes a few seconds."""

STARTS: Final = [name for name in SCENES if name not in SHARDS]


def assert_recovers_from_each(place: Place, orders: Orders, calls: Sequence[Seen]) -> None:
    """Kill it before each of the calls; look at what that leaves; start it again."""
    violations = Violations()
    for call in calls:
        with violations.at(call):
            place.put_back()
            place.kill(orders, call.point)
            place.assert_as_left()
            place.assert_recovers()
    violations.assert_none()


@pytest.mark.parametrize(
    ("scene", "shard"), [(scene, shard) for scene, shards in SHARDS.items() for shard in range(shards)]
)
def test_daemon_killed_before_any_call_of_a_walk_leads_to_the_same_archive(
    lives: Subjects, tried: Tried, scene: str, shard: int
) -> None:
    """From the moment a file is ready to the end of the process, every call is one before which it may die."""
    with playing(SCENES[scene], lives) as place:
        orders = SCENES[scene].orders(place)
        calls = place.calls_of(orders)[shard :: SHARDS[scene]]
        assert_recovers_from_each(place, orders, calls)
        tried("kill sweep, walks: points", len(calls))


@pytest.mark.parametrize("scene", STARTS)
def test_daemon_killed_at_any_change_of_a_start_leads_to_the_same_archive(
    lives: Subjects, tried: Tried, scene: str
) -> None:
    """A start that mends what an earlier crash left may itself be ended at any moment."""
    with playing(SCENES[scene], lives) as place:
        orders = SCENES[scene].orders(place)
        calls = [call for call in place.calls_of(orders) if call.changes_files]
        assert_recovers_from_each(place, orders, calls)
        tried("kill sweep, starts: points", len(calls))


def test_daemon_killed_while_its_threads_sync_leads_to_the_same_archive(lives: Subjects, tried: Tried) -> None:
    """Several runs are synced at once: wherever all of the threads are, the end is the same."""
    scene = SCENES["three_files"]
    with playing(scene, lives) as place:
        orders = replace(scene.orders(place), threads=True)
        kills = 0
        for point in (Point(call, number) for call in ("fsync", "close", "openat") for number in range(1, 6)):
            place.put_back()
            with place.disturbed(orders, killing(point), threads=True) as life:
                life.end()
            kills += was_killed(place.report)
            place.assert_as_left()
            place.assert_recovers()
        assert kills > 10, "nearly every one of these calls is made by some thread"
        tried("kill sweep, threads: points", kills)


@pytest.mark.parametrize("call", ["mkdir", "fsync", "renameat2", "pwrite64", "fdatasync", "unlink"])
def test_what_a_killed_daemon_left_is_dealt_with_by_the_command(lives: Subjects, tried: Tried, call: str) -> None:
    """`run --once`, a process of its own from start to end, comes to what the short lives of the sweep come to."""
    scene = SCENES["three_files"]
    with playing(scene, lives) as place:
        orders = scene.orders(place)
        points = [each.point for each in place.calls_of(orders) if each.point.call == call]
        place.put_back()
        place.kill(orders, points[len(points) // 2])
        (host,) = place.hosts
        result = modelwarden("run", "--once", "--no-courier", "--config", host.site.config)
        assert result.returncode == 0, result.stderr
        place.assert_all_archived_once()
        assert_second_start_changes_nothing(host.site)
        tried("kill sweep, the command: points", 1)
