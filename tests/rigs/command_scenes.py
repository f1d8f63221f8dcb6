"""Commands that change an archive, and what must hold of it afterwards, however they ended.

The rule: what is left shows nobody a half, and the same command again, or the next start of a daemon, leads to what it
would have led to.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from commands import Done, command
from invariants import assert_archive_whole, assert_run_whole
from modelwarden.archive.decisions import faults_in, read_all, read_head
from processes import Site, destination, index_of, make_site, outbox_of
from rigs.crash_subject import Orders, Report
from rigs.lives import Subjects
from rigs.system_calls import Seen, seen, traced
from summaries import GOOD, MIDDLING, encoded, flat_summary

RUN: Final = "20250101_000000"
RUNS: Final = (RUN, "20250102_000000", "20250103_000000")
DECIDE: Final = ("review", RUN, "A", "--approve", "--reason", "checked", "--by", "me")
PRUNE: Final = ("prune", "--keep-last", "1")


class Scene:
    """An archive that a command is to change, and how to put it back.

    Args:
        folder: of everything.
        lives: the commands'.

    Attributes:
        site: where it is.
        old: a folder of summaries that nobody watches.
        report: what strace saw of the last life.
    """

    def __init__(self, folder: Path, lives: Subjects) -> None:
        self.site: Site = make_site(
            folder / "site", destination("team", "json://127.0.0.1:9/x", "REVIEWED", "APPROVED")
        )
        self.old = folder / "old"
        self._lives = lives
        self._kept = folder / "kept"
        self.report = folder / "strace"

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
        report = self.live(words, inject)
        assert report is None or not report.unforeseen, report.unforeseen
        return seen(self.report)

    def live(self, words: tuple[str, ...], inject: str) -> Report | None:
        """Let a command live; what it tells at its end, or None if it was killed."""
        orders = Orders(str(self.site.config), [[*words, "--config", str(self.site.config)]], stops=["start"])
        with self._lives.life(orders) as life:
            life.stopped_at("start")
            with traced(life.pid, self.report, inject=inject):
                life.go_on()
                return life.end()


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


def assert_decided_once(scene: Scene, before: int, starts: int = 2) -> None:
    """One decision more, one message more, and nothing for `verify` to find, whoever starts next."""
    for _ in range(starts):
        kept = read_all(str(scene.site.archive))
        assert len(kept) == before + 1
        assert scene.ask("run", "--once", "--no-courier").code == 0
        verified = scene.ask("verify")
        assert verified.code == 0, verified.out
        owed = [row["event"] for row in outbox_of(scene.site.state) if row["kind"] == "REVIEWED"]
        assert sorted(owed) == sorted(f"reviewed:{each.digest[:16]}" for each in kept)
        with closing(sqlite3.connect(scene.site.state / "modelwarden.sqlite")) as connection:
            assert connection.execute("SELECT symbol, reviewed FROM approvals").fetchall() == [("A", 1)]


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


def assert_pruned(scene: Scene, starts: int = 2) -> None:
    """One run is left, whoever starts next, although all sources are there; every message is still owed once."""
    for _ in range(starts):
        assert scene.ask("run", "--once", "--no-courier").code == 0
        assert [run["timestamp"] for run in index_of(scene.site.archive)] == [RUNS[-1]]
        assert_archive_whole(scene.site.archive, [encoded(flat_summary({"A": GOOD}, timestamp=RUNS[-1]))])
        verified = scene.ask("verify")
        assert verified.code == 0, verified.out
        owed = [row["event"] for row in outbox_of(scene.site.state)]
        assert len(owed) == len(set(owed)) == 3


def old_files(folder: Path, lives: Subjects) -> Scene:
    """An archive without runs, and two summaries that no daemon saw."""
    scene = Scene(folder, lives)
    scene.old.mkdir()
    for number, data in enumerate(OLD):
        (scene.old / f"{number}.json").write_bytes(data)
    assert scene.ask("run", "--once", "--no-courier").code == 0
    scene.keep()
    return scene


OLD: Final = tuple(encoded(flat_summary({"A": GOOD}, timestamp=name)) for name in RUNS[:2])


def assert_listed_runs_are_whole(scene: Scene) -> None:
    """What index.json lists is there."""
    for run in index_of(scene.site.archive):
        assert_run_whole(scene.site.archive / run["timestamp"])


def assert_brought_in(scene: Scene) -> None:
    """Each is archived once, and nobody is told."""
    assert scene.ask("run", "--once", "--no-courier").code == 0
    assert_archive_whole(scene.site.archive, OLD)
    assert scene.ask("verify").code == 0
    assert outbox_of(scene.site.state) == []
