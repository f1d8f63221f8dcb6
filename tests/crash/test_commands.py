"""SIGKILL before every change that a command makes in archive and state: nothing half decided, nothing lost."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from processes import outbox_of
from rigs.command_scenes import (
    DECIDE,
    PRUNE,
    SHARDS,
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
from rigs.crash_scenes import scratch
from rigs.lives import Subjects, subjects
from rigs.mutants import PACKAGE, Mutant
from rigs.system_calls import killing

pytestmark = pytest.mark.crash

Tried = Callable[[str, int], None]


@pytest.fixture(scope="module")
def lives() -> Iterator[Subjects]:
    """Commands of the product as it is."""
    with subjects(PACKAGE.parent, module="rigs.command_subject") as started:
        yield started


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a scene is played."""
    with scratch() as folder:
        yield folder


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_review_killed_before_any_change_decides_once(
    folder: Path, lives: Subjects, tried: Tried, first: bool, shard: int
) -> None:
    """Decided or not, never half; said again it is decided once, announced once, and the chain is whole."""
    scene = reviewed(folder, lives, first=first)
    before = 0 if first else 1
    number = scene.sweep(
        DECIDE,
        lambda: assert_decision_is_whole_or_none(scene, before),
        lambda: assert_decided_once(scene, before),
        shard,
    )
    assert number > 5
    tried("kill sweep, review: points", number)


def test_review_killed_is_announced_by_the_next_start(folder: Path, lives: Subjects) -> None:
    """A decision that is on disk, and whose message was not owed yet, is not lost with the person's patience."""
    scene = reviewed(folder, lives, first=False)
    scene.put_back()
    calls = scene.traced(DECIDE)
    named = next(at for at, call in enumerate(calls) if "000002.json" in call.arguments and "rename" in call.point.call)
    after = next(call for call in calls[named + 1 :] if call.changes_files and call.concerns_files)
    scene.put_back()
    scene.traced(DECIDE, killing(after.point))
    assert sum(row["kind"] == "REVIEWED" for row in outbox_of(scene.site.state)) == 1
    assert scene.ask("run", "--once", "--no-courier").code == 0
    assert sum(row["kind"] == "REVIEWED" for row in outbox_of(scene.site.state)) == 2
    assert_decided_once(scene, 1)


MUTANTS: Final = (
    Mutant(
        "writes_in_place",
        "archive/numbered.py",
        "durable.rename_new(draft, target)",
        "durable.write_new_file(target, data)",
    ),
    Mutant(
        "owes_nothing_for_what_it_comes_upon",
        "pipeline/recording.py",
        "events = [_decision_event(digest, each) for digest, each in self.decided.unannounced()]",
        "events: list[Event] = []",
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_caught(folder: Path, mutant: Mutant) -> None:
    """One that survives means that the sweep is blind."""
    with subjects(mutant.make(folder / "mutant"), module="rigs.command_subject") as lives:
        scene = reviewed(folder / "scene", lives, first=False)
        with pytest.raises(AssertionError):
            scene.sweep(
                DECIDE, lambda: assert_decision_is_whole_or_none(scene, 1), lambda: assert_decided_once(scene, 1)
            )


@pytest.mark.parametrize("shard", range(SHARDS))
def test_prune_killed_before_any_change_removes_whole_runs(
    folder: Path, lives: Subjects, tried: Tried, shard: int
) -> None:
    """No half of a run is seen, none comes back, and the same command again ends what was begun."""
    scene = three_runs(folder, lives)
    number = scene.sweep(PRUNE, lambda: assert_runs_are_whole(scene), lambda: assert_pruned(scene), shard)
    assert number > 5
    tried("kill sweep, prune: points", number)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_import_killed_before_any_change_archives_once(folder: Path, lives: Subjects, tried: Tried, shard: int) -> None:
    """The same command again brings in what is left, and nobody is told."""
    scene = old_files(folder, lives)
    number = scene.sweep(
        ("archive", str(scene.old)),
        lambda: assert_listed_runs_are_whole(scene),
        lambda: assert_brought_in(scene),
        shard,
    )
    assert number > 5
    tried("kill sweep, import: points", number)
