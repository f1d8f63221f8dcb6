"""Every call of a command that changes the archive refused once: no space, a broken disk, a disk that is read-only.

The rule: a command that ends with a sentence and exit code 2 says where; it decided nothing, and of what it was to
remove each run is there whole, or is gone. One that ends well did what it was asked. The same command again ends it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

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
from rigs.lives import Subjects, subjects
from rigs.mutants import PACKAGE
from rigs.refusals import can_be_refused, of_the_state, synced_again
from rigs.system_calls import Seen, refusing, seen

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400)]

Tried = Callable[[str, int], None]

ERRORS: Final = ("ENOSPC", "EIO", "EROFS")
OF_THE_STATE: Final = "EIO"
"""What the calls of SQLite are refused with: whatever the error, the product hears one of SQLite's."""

SYNCS: Final = frozenset({"fsync", "fdatasync", "sync_file_range", "flock"})


@pytest.fixture(scope="module")
def lives() -> Iterator[Subjects]:
    """Commands of the product as it is."""
    with subjects(PACKAGE.parent, module="rigs.command_subject") as started:
        yield started


def points_of(scene: Scene, words: tuple[str, ...], error: str) -> list[Seen]:
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


def sweep(
    scene: Scene,
    words: tuple[str, ...],
    error: str,
    assert_as_left: Callable[[int], None],
    assert_ended: Callable[[], None],
) -> int:
    """Refuse each call once; hold what the command says to what it left; let it run again, and look again."""
    points = points_of(scene, words, error)
    wrong: list[str] = []
    for call in points:
        scene.put_back()
        report = scene.live(words, refusing(call.point, error))
        try:
            assert report is not None
            assert not report.unforeseen, report.unforeseen
            code = 2 if report.ended else int(report.dealt[0])
            if report.ended:
                assert str(scene.site.folder) in report.ended, f"it does not say where: {report.ended}"
            again = synced_again(seen(scene.report), str(scene.site.archive))
            assert again == [], f"synced again after a sync that failed: {again}"
            assert_as_left(code)
            done = scene.ask(*words)
            assert done.code in {0, 1}, done.err
            assert_ended()
        except AssertionError as failure:
            wrong.append(f"refused {call}: {failure}")
    assert wrong == []
    return len(points)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_review_refused_anything_decides_or_says_that_it_did_not(
    tmp_path: Path, lives: Subjects, tried: Tried, first: bool, error: str
) -> None:
    """Exit code 0 and a decision, or 2 and none."""
    scene = reviewed(tmp_path, lives, first=first)
    before = 0 if first else 1

    def assert_as_left(code: int) -> None:
        assert code in {0, 2}
        assert len(read_all(str(scene.site.archive))) == before + (code == 0)
        assert_decision_is_whole_or_none(scene, before)

    number = sweep(scene, DECIDE, error, assert_as_left, lambda: assert_decided_once(scene, before, 1))
    assert number > 5
    tried("errno sweep, review: points", number)


@pytest.mark.parametrize("error", ERRORS)
def test_prune_refused_anything_removes_whole_runs(tmp_path: Path, lives: Subjects, tried: Tried, error: str) -> None:
    """Exit code 0 and all are gone, or 2: each is there whole, or is gone."""
    scene = three_runs(tmp_path, lives)

    def assert_as_left(code: int) -> None:
        assert code in {0, 2}
        there = [name for name in RUNS if (scene.site.archive / name).exists()]
        if code == 0:
            assert there == [run["timestamp"] for run in index_of(scene.site.archive)] == [RUNS[-1]]
        assert_runs_are_whole(scene)

    number = sweep(scene, PRUNE, error, assert_as_left, lambda: assert_pruned(scene, 1))
    assert number > 5
    tried("errno sweep, prune: points", number)


@pytest.mark.parametrize("error", ERRORS)
def test_import_refused_anything_archives_or_says_that_it_did_not(
    tmp_path: Path, lives: Subjects, tried: Tried, error: str
) -> None:
    """Exit code 0 and all are archived; else 1 or 2, and the same command again brings in what is left."""
    scene = old_files(tmp_path, lives)

    def assert_as_left(code: int) -> None:
        assert_listed_runs_are_whole(scene)
        if code == 0:
            assert len(index_of(scene.site.archive)) == 2

    number = sweep(scene, ("archive", str(scene.old)), error, assert_as_left, lambda: assert_brought_in(scene))
    assert number > 5
    tried("errno sweep, import: points", number)
