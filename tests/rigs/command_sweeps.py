"""Sweeps over the calls of a command that changes an archive: it is killed before each, or refused each, once.

The rule: what that leaves is looked at as it is; then the same command runs again, undisturbed, and must end what was
begun.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from modelwarden.archive.decisions import read_all
from processes import index_of
from rigs.command_scenes import (
    DECIDE,
    PRUNE,
    RUNS,
    Scene,
    assert_brought_in,
    assert_decided_once,
    assert_decision_is_whole_or_none,
    assert_listed_runs_are_whole,
    assert_pruned,
    assert_runs_are_whole,
    old_files,
    reviewed,
    three_runs,
)
from rigs.lives import Subjects
from rigs.refusals import can_be_refused, of_the_state, synced_again
from rigs.system_calls import Seen, killing, refusing, seen

SHARDS: Final = 4
"""Into how many tests the points of a kill sweep are dealt; each takes a second or two."""

FEWEST: Final = 5
"""A sweep over no more points than that has not seen its command."""

OF_THE_STATE: Final = "EIO"
"""What the calls of SQLite are refused with: whatever the error, the product hears one of SQLite's."""

SYNCS: Final = frozenset({"fsync", "fdatasync", "sync_file_range", "flock"})


class Swept(NamedTuple):
    """A command of which each call is disturbed once.

    Attributes:
        words: its arguments, in a scene.
        begin: makes the scene that it finds.
        assert_as_left: what must hold of whatever a disturbed one left.
        assert_answered: what must hold of what a refused one left, by its exit code.
        assert_ended: what must hold once the same command ran again, whoever starts next, so many times at most.
    """

    words: Callable[[Scene], tuple[str, ...]]
    begin: Callable[[Path, Subjects], Scene]
    assert_as_left: Callable[[Scene], None]
    assert_answered: Callable[[Scene, int], None]
    assert_ended: Callable[[Scene, int], None]


def review(*, first: bool) -> Swept:
    """A decision; the first of its archive, or the second."""
    before = 0 if first else 1

    def assert_answered(scene: Scene, code: int) -> None:
        assert code in {0, 2}
        assert len(read_all(str(scene.site.archive))) == before + (code == 0)

    return Swept(
        words=lambda _: DECIDE,
        begin=partial(reviewed, first=first),
        assert_as_left=lambda scene: assert_decision_is_whole_or_none(scene, before),
        assert_answered=assert_answered,
        assert_ended=lambda scene, starts: assert_decided_once(scene, before, starts),
    )


def _assert_pruning_answered(scene: Scene, code: int) -> None:
    assert code in {0, 2}
    there = [name for name in RUNS if (scene.site.archive / name).exists()]
    if code == 0:
        assert there == [run["timestamp"] for run in index_of(scene.site.archive)] == [RUNS[-1]]


PRUNING: Final = Swept(
    words=lambda _: PRUNE,
    begin=three_runs,
    assert_as_left=assert_runs_are_whole,
    assert_answered=_assert_pruning_answered,
    assert_ended=assert_pruned,
)


def _assert_import_answered(scene: Scene, code: int) -> None:
    if code == 0:
        assert len(index_of(scene.site.archive)) == 2


IMPORT: Final = Swept(
    words=lambda scene: ("archive", str(scene.old)),
    begin=old_files,
    assert_as_left=assert_listed_runs_are_whole,
    assert_answered=_assert_import_answered,
    assert_ended=lambda scene, _starts: assert_brought_in(scene),
)


def kill_at_each(scene: Scene, swept: Swept, shard: int | None = None) -> int:
    """Kill the command before each change, or before every `SHARDS`th; how many these were."""
    words = swept.words(scene)
    scene.put_back()
    points = [call for call in scene.traced(words) if call.changes_files and call.concerns_files]
    points = points if shard is None else points[shard::SHARDS]
    for call in points:
        scene.put_back()
        scene.traced(words, killing(call.point))
        try:
            swept.assert_as_left(scene)
            again = scene.ask(*words)
            assert again.code in {0, 1}, again.err
            swept.assert_ended(scene, 2)
        except AssertionError as error:
            raise AssertionError(f"killed before {call}: {error}") from error
    assert len(points) > FEWEST
    return len(points)


def refuse_each(scene: Scene, swept: Swept, error: str) -> int:
    """Refuse each call once, and hold what the command says to what it left; how many these were."""
    words = swept.words(scene)
    points = _refusable(scene, words, error)
    wrong: list[str] = []
    for call in points:
        scene.put_back()
        report = scene.live(words, refusing(call.point, error))
        try:
            assert report is not None
            assert not report.unforeseen, report.unforeseen
            if report.ended:
                assert str(scene.site.folder) in report.ended, f"it does not say where: {report.ended}"
            again = synced_again(seen(scene.report), str(scene.site.archive))
            assert again == [], f"synced again after a sync that failed: {again}"
            swept.assert_answered(scene, 2 if report.ended else int(report.dealt[0]))
            swept.assert_as_left(scene)
            done = scene.ask(*words)
            assert done.code in {0, 1}, done.err
            swept.assert_ended(scene, 1)
        except AssertionError as failure:
            wrong.append(f"refused {call}: {failure}")
    assert wrong == []
    assert len(points) > FEWEST
    return len(points)


def _refusable(scene: Scene, words: tuple[str, ...], error: str) -> list[Seen]:
    """The calls that change something below the scene's folder, put it on disk, or lock it."""
    scene.put_back()
    return [
        call
        for call in scene.traced(words)
        if call.path.startswith(str(scene.site.folder))
        and can_be_refused(call)
        and (error == OF_THE_STATE or not of_the_state(call))
        and (call.changes_files or call.point.call in SYNCS)
    ]
