"""SIGKILL before every change that a command makes in archive and state: nothing half decided, nothing lost."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from processes import outbox_of
from rigs.command_scenes import DECIDE, assert_decided_once, reviewed
from rigs.command_sweeps import IMPORT, PRUNING, SHARDS, kill_at_each, review
from rigs.crash_scenes import scratch
from rigs.lives import Subjects, subjects
from rigs.mutants import Mutant
from rigs.system_calls import killing

pytestmark = pytest.mark.crash

Tried = Callable[[str, int], None]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a scene is played."""
    with scratch() as folder:
        yield folder


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_review_killed_before_any_change_decides_once(
    folder: Path, commands: Subjects, tried: Tried, first: bool, shard: int
) -> None:
    """Decided or not, never half; said again it is decided once, announced once, and the chain is whole."""
    swept = review(first=first)
    tried("kill sweep, review: points", kill_at_each(swept.begin(folder, commands), swept, shard))


def test_review_killed_is_announced_by_the_next_start(folder: Path, commands: Subjects) -> None:
    """A decision that is on disk, and whose message was not owed yet, is not lost with the person's patience."""
    scene = reviewed(folder, commands, first=False)
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
    with subjects(mutant.make(folder / "mutant"), module="rigs.command_subject") as commands:
        swept = review(first=False)
        scene = swept.begin(folder / "scene", commands)
        with pytest.raises(AssertionError, match=r"^killed before "):
            kill_at_each(scene, swept)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_prune_killed_before_any_change_removes_whole_runs(
    folder: Path, commands: Subjects, tried: Tried, shard: int
) -> None:
    """No half of a run is seen, none comes back, and the same command again ends what was begun."""
    tried("kill sweep, prune: points", kill_at_each(PRUNING.begin(folder, commands), PRUNING, shard))


@pytest.mark.parametrize("shard", range(SHARDS))
def test_import_killed_before_any_change_archives_once(
    folder: Path, commands: Subjects, tried: Tried, shard: int
) -> None:
    """The same command again brings in what is left, and nobody is told."""
    tried("kill sweep, import: points", kill_at_each(IMPORT.begin(folder, commands), IMPORT, shard))
