"""SIGKILL before every change that a command makes in archive and state: nothing half decided, nothing lost.

The rule: what a killed command left shows nobody a half, and the same command again, or the next start of a daemon,
leads to what it would have led to.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from commands import Done, command
from invariants import assert_archive_whole, assert_run_whole
from modelwarden.archive.decisions import faults_in, read_all, read_head
from processes import Site, destination, index_of, make_site, outbox_of
from rigs.crash_subject import Orders
from rigs.lives import Subjects, subjects
from rigs.mutants import PACKAGE, Mutant
from rigs.system_calls import Seen, killing, seen, traced
from summaries import GOOD, MIDDLING, encoded, flat_summary

pytestmark = pytest.mark.crash

Tried = Callable[[str, int], None]
RUN: Final = "20250101_000000"
SHARDS: Final = 4
"""Into how many tests the points of a sweep are dealt; each takes a second or two."""

DECIDE: Final = ("review", RUN, "A", "--approve", "--reason", "checked", "--by", "me")


class Scene:
    """An archive that a command is to change, and how to put it back.

    Args:
        folder: of everything.
        lives: the commands'.
    """

    def __init__(self, folder: Path, lives: Subjects) -> None:
        self.site: Site = make_site(
            folder / "site", destination("team", "json://127.0.0.1:9/x", "REVIEWED", "APPROVED")
        )
        self._lives = lives
        self._kept = folder / "kept"
        self._report = folder / "strace"

    def keep(self) -> None:
        """Remember how everything is."""
        shutil.copytree(self.site.archive, self._kept)

    def put_back(self) -> None:
        """Make archive and state as they were remembered; a trainer's file that was copied would be another file."""
        shutil.rmtree(self.site.archive)
        shutil.copytree(self._kept, self.site.archive)

    def ask(self, *words: str) -> Done:
        """A command that nobody disturbs."""
        return command(*words, "--config", self.site.config)

    def traced(self, words: tuple[str, ...], inject: str = "") -> list[Seen]:
        """The calls of a command, up to where it was killed."""
        orders = Orders(str(self.site.config), [[*words, "--config", str(self.site.config)]], stops=["start"])
        with self._lives.life(orders) as life:
            life.stopped_at("start")
            with traced(life.pid, self._report, inject=inject):
                life.go_on()
                report = life.end()
        assert report is None or not report.unforeseen, report.unforeseen
        return seen(self._report)

    def sweep(
        self,
        words: tuple[str, ...],
        assert_as_left: Callable[[], None],
        assert_ended: Callable[[], None],
        shard: int | None = None,
    ) -> int:
        """Kill the command before each change; look at what that leaves; let it run again, and look again."""
        self.put_back()
        points = [call for call in self.traced(words) if call.changes_files and call.concerns_files]
        points = points if shard is None else points[shard::SHARDS]
        for call in points:
            self.put_back()
            self.traced(words, killing(call.point))
            try:
                assert_as_left()
                again = self.ask(*words)
                assert again.code in {0, 1}, again.err
                assert_ended()
            except AssertionError as error:
                raise AssertionError(f"killed before {call}: {error}") from error
        return len(points)


@pytest.fixture(scope="module")
def lives() -> Iterator[Subjects]:
    """Commands of the product as it is."""
    with subjects(PACKAGE.parent, module="rigs.command_subject") as started:
        yield started


def reviewed(folder: Path, lives: Subjects, *, first: bool) -> Scene:
    """A run with a model in REVIEW; where it is not the first, there was a decision before."""
    scene = Scene(folder, lives)
    (scene.site.out / "a.json").write_bytes(encoded(flat_summary({"A": MIDDLING, "B": MIDDLING}, timestamp=RUN)))
    assert scene.ask("run", "--once", "--no-courier").code == 0
    if not first:
        assert scene.ask("review", RUN, "B", "--reject", "--reason", "no", "--by", "me").code == 0
    scene.keep()
    return scene


def assert_decision_is_whole_or_none(scene: Scene, before: int) -> None:
    """No file is half a decision, and what is there is a chain; what is announced is there."""
    root = str(scene.site.archive)
    kept = read_all(root)
    assert [each.problem for each in kept] == [""] * len(kept)
    assert len(kept) in {before, before + 1}
    faults = [fault.what for fault in faults_in(kept, read_head(root)) if not fault.is_derived]
    assert faults == []
    owed = [row["event"] for row in outbox_of(scene.site.state) if row["kind"] == "REVIEWED"]
    assert {event.partition(":")[2] for event in owed} <= {each.digest[:16] for each in kept}
    assert scene.ask("approved", "--by-gate").code == 1
    approved = scene.ask("approved")
    assert approved.code == (0 if len(kept) > before else 1), "decided, and not said, or the other way round"


def assert_decided_once(scene: Scene, before: int) -> None:
    """One decision more, one message more, and nothing for `verify` to find, whoever starts next."""
    for _ in range(2):
        kept = read_all(str(scene.site.archive))
        assert len(kept) == before + 1
        assert scene.ask("run", "--once", "--no-courier").code == 0
        verified = scene.ask("verify")
        assert verified.code == 0, verified.out
        owed = [row["event"] for row in outbox_of(scene.site.state) if row["kind"] == "REVIEWED"]
        assert sorted(owed) == sorted(f"reviewed:{each.digest[:16]}" for each in kept)
        with closing(sqlite3.connect(scene.site.state / "modelwarden.sqlite")) as connection:
            assert connection.execute("SELECT symbol, reviewed FROM approvals").fetchall() == [("A", 1)]


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_review_killed_before_any_change_decides_once(
    tmp_path: Path, lives: Subjects, tried: Tried, first: bool, shard: int
) -> None:
    """Decided or not, never half; said again it is decided once, announced once, and the chain is whole."""
    scene = reviewed(tmp_path, lives, first=first)
    before = 0 if first else 1
    number = scene.sweep(
        DECIDE,
        lambda: assert_decision_is_whole_or_none(scene, before),
        lambda: assert_decided_once(scene, before),
        shard,
    )
    assert number > 5
    tried("kill sweep, review: points", number)


def test_review_killed_is_announced_by_the_next_start(tmp_path: Path, lives: Subjects) -> None:
    """A decision that is on disk, and whose message was not owed yet, is not lost with the person's patience."""
    scene = reviewed(tmp_path, lives, first=False)
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
        "archive/reviewing.py",
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
def test_mutant_is_caught(tmp_path: Path, mutant: Mutant) -> None:
    """One that survives means that the sweep is blind."""
    with subjects(mutant.make(tmp_path / "mutant"), module="rigs.command_subject") as lives:
        scene = reviewed(tmp_path / "scene", lives, first=False)
        with pytest.raises(AssertionError):
            scene.sweep(
                DECIDE, lambda: assert_decision_is_whole_or_none(scene, 1), lambda: assert_decided_once(scene, 1)
            )


PRUNE: Final = ("prune", "--keep-last", "1")
RUNS: Final = ("20250101_000000", "20250102_000000", "20250103_000000")


def three_runs(folder: Path, lives: Subjects) -> Scene:
    """Three runs whose sources are still watched; a message is owed about each."""
    scene = Scene(folder, lives)
    for number, name in enumerate(RUNS):
        (scene.site.out / f"{number}.json").write_bytes(encoded(flat_summary({"A": GOOD}, timestamp=name)))
    assert scene.ask("run", "--once", "--no-courier").code == 0
    scene.keep()
    return scene


def assert_runs_are_whole(scene: Scene) -> None:
    """What index.json lists is there, and is whole; the youngest is not touched."""
    listed = [run["timestamp"] for run in index_of(scene.site.archive)]
    assert set(listed) <= set(RUNS)
    for name in listed:
        assert_run_whole(scene.site.archive / name)
    for name in RUNS:
        if (scene.site.archive / name).exists():
            assert_run_whole(scene.site.archive / name)
    assert RUNS[-1] in listed


def assert_pruned(scene: Scene) -> None:
    """One run is left, whoever starts next, although all sources are there; every message is still owed once."""
    for _ in range(2):
        assert scene.ask("run", "--once", "--no-courier").code == 0
        assert [run["timestamp"] for run in index_of(scene.site.archive)] == [RUNS[-1]]
        assert_archive_whole(scene.site.archive, [encoded(flat_summary({"A": GOOD}, timestamp=RUNS[-1]))])
        verified = scene.ask("verify")
        assert verified.code == 0, verified.out
        owed = [row["event"] for row in outbox_of(scene.site.state)]
        assert len(owed) == len(set(owed)) == 3


@pytest.mark.parametrize("shard", range(SHARDS))
def test_prune_killed_before_any_change_removes_whole_runs(
    tmp_path: Path, lives: Subjects, tried: Tried, shard: int
) -> None:
    """No half of a run is seen, none comes back, and the same command again ends what was begun."""
    scene = three_runs(tmp_path, lives)
    number = scene.sweep(PRUNE, lambda: assert_runs_are_whole(scene), lambda: assert_pruned(scene), shard)
    assert number > 5
    tried("kill sweep, prune: points", number)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_import_killed_before_any_change_archives_once(
    tmp_path: Path, lives: Subjects, tried: Tried, shard: int
) -> None:
    """The same command again brings in what is left, and nobody is told."""
    scene = Scene(tmp_path, lives)
    old = tmp_path / "old"
    old.mkdir()
    summaries = [encoded(flat_summary({"A": GOOD}, timestamp=name)) for name in RUNS[:2]]
    for number, data in enumerate(summaries):
        (old / f"{number}.json").write_bytes(data)
    assert scene.ask("run", "--once", "--no-courier").code == 0
    scene.keep()

    def assert_as_left() -> None:
        for run in index_of(scene.site.archive):
            assert_run_whole(scene.site.archive / run["timestamp"])

    def assert_ended() -> None:
        assert scene.ask("run", "--once", "--no-courier").code == 0
        assert_archive_whole(scene.site.archive, summaries)
        assert scene.ask("verify").code == 0
        assert outbox_of(scene.site.state) == []

    number = scene.sweep(("archive", str(old)), assert_as_left, assert_ended, shard)
    assert number > 5
    tried("kill sweep, import: points", number)
