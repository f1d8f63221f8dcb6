"""Scenes of a crash: what an archive is like when a life is let go, what it does there, and what must hold afterwards.

The rule: a scene is made by the product itself, by lives that end well or are killed at a place of their own; and every
disturbed life is followed by two that are not: one only starts, and one starts again, must find nothing to do, and then
deals with all that is owed. What must hold is asked after each.
"""

import json
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from invariants import assert_archive_whole, assert_nothing_half_made, assert_run_whole, contents, sha256, snapshot
from modelwarden.archive.publishing import MARKER_FILE
from modelwarden.gate.timestamp import is_run_name
from processes import DEADLINE, Site, destination, drop, index_of, make_site
from rigs.crash_subject import Orders, Report
from rigs.lives import Life, Subjects
from rigs.system_calls import Point, Seen, killing, refusing, seen, stopping, traced, wait_until_stopped, was_killed
from summaries import encoded, random_summary

TEAM: Final = destination("team", "json://127.0.0.1:9/hook", "APPROVED", "REVIEW", "DROP", "REJECTED")
"""Wants to hear of everything; nobody delivers, so what it is owed stays in the outbox."""

MEMORY: Final = Path("/dev/shm")
"""Where scenes are played: what a kill leaves does not depend on the disk, and here a sync costs nothing."""

EVERY: Final = 16
"""Of the writes of one page after another to one file, the first, the last and one of so many between them are tried: a
transaction of which some pages are written is the same whichever they are."""

REJECTED: Final = frozenset({"not.json"})
"""The files that are no summaries."""


def file(name: str) -> bytes:
    """What a trainer wrote: for every name something else, with a timestamp of its own."""
    if name in REJECTED:
        return encoded({"models": [], "note": name})
    return encoded(random_summary(zlib.crc32(name.encode()) % 10_000_000, models=3, points=4))


class Rows(NamedTuple):
    """What a state file holds.

    Attributes:
        ledger: which files were dealt with: path, sha256, run.
        catalog: sha256 by run.
        owed: the events of runs and rejected files, one a message.
    """

    ledger: Sequence[tuple[str, str, str | None]]
    catalog: Mapping[str, str]
    owed: Sequence[str]


class Host:
    """One daemon's place of work: its settings, its watched folder, its state.

    Args:
        name: of the folder with its settings.
        place: where it is.
        files: what its trainer leaves, by name.
        root: the watched folder's name.
        state: the state directory's name on the disk; None for the product's default.
    """

    def __init__(self, name: str, place: "Place", files: Sequence[str], *, root: str, state: str | None) -> None:
        out = place.folder / root
        out.mkdir(exist_ok=True)
        watch = f'[[watch]]\npath = "{out}"\n'
        made = make_site(place.folder / name, TEAM, watch=watch, archive=str(place.mount / "archive"))
        if state is not None:
            made.config.write_text(f'state_dir = "{place.mount / state}"\n' + made.config.read_text())
        state_folder = place.archive / ".state" if state is None else place.disk / state
        self.site = Site(made.folder, out, place.archive, state_folder)
        self.files = files
        for each in files:
            (out / each).write_bytes(file(each))

    def orders(self, *batches: Sequence[str], stops: Sequence[str] = (), tries: int = 1) -> Orders:
        """What a life of this daemon is to do with files of these names."""
        paths = [[str(self.site.out / name) for name in batch] for batch in batches]
        return Orders(str(self.site.config), paths, stops, tries)

    def rows(self) -> Rows:
        """What its state holds, read from a copy: a look at a state file after a crash would mend it."""
        with tempfile.TemporaryDirectory(dir=self.site.folder) as scratch:
            copy = Path(scratch, "state")
            if not (self.site.state / "modelwarden.sqlite").exists():
                return Rows([], {}, [])
            shutil.copytree(self.site.state, copy)
            with closing(sqlite3.connect(copy / "modelwarden.sqlite")) as connection:
                if not connection.execute("PRAGMA user_version").fetchone()[0]:
                    return Rows([], {}, [])  # killed before it had tables
                files = connection.execute("SELECT path, sha256, run FROM files").fetchall()
                return Rows(
                    sorted((path.decode(), digest, run) for path, digest, run in files),
                    dict(connection.execute("SELECT timestamp, sha256 FROM runs")),
                    sorted(
                        event for (event,) in connection.execute("SELECT event FROM outbox WHERE kind != 'PROBLEM'")
                    ),
                )


class Place:
    """An archive, the hosts that use it, and how to put all of it back to how a scene begins.

    Args:
        folder: of everything.
        lives: the product's.
        disk: the folder that holds the archive and the state, as the lives see it and as this process does; below
            `folder` where it is no other file system.
    """

    def __init__(self, folder: Path, lives: Subjects, disk: tuple[Path, Path] | None = None) -> None:
        self.folder: Final = folder
        self.lives: Final = lives
        self.mount, self.disk = disk or (folder / "disk", folder / "disk")
        self.archive: Final = self.disk / "archive"
        self.report: Final = folder / "strace"
        self.hosts: list[Host] = []
        self.unannounced: frozenset[str] = frozenset()
        self._kept: Final = folder / "kept"
        self._processing: Mapping[str, Any] = {}
        self._index_was_true = True
        self.disk.mkdir()

    def host(self, name: str, files: Sequence[str], *, root: str = "out", state: str | None = None) -> Host:
        """Another daemon on the archive."""
        host = Host(name, self, files, root=root, state=state)
        self.hosts.append(host)
        self._processing = {str(each.site.out): snapshot(each.site.out) for each in self.hosts}
        return host

    def leave(self, names: Sequence[str]) -> None:
        """Leave more files in the folders of all hosts, each in one step."""
        for host in self.hosts:
            host.files = [*host.files, *names]
        for out in {host.site.out for host in self.hosts}:
            for name in names:
                drop(file(name), out, name)
        self._processing = {str(each.site.out): snapshot(each.site.out) for each in self.hosts}

    def keep(self) -> None:
        """Remember how everything is."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self.disk, self._kept)
        self._index_was_true = self._index_is_true()

    def put_back(self) -> None:
        """Make everything as it was remembered."""
        shutil.rmtree(self.disk)
        shutil.copytree(self._kept, self.disk)

    @contextmanager
    def disturbed(self, orders: Orders, inject: str = "", *, threads: bool = False) -> Iterator[Life]:
        """A life that is traced from its first stop on."""
        with self.lives.life(orders) as life:
            stop, *_ = orders.stops
            life.stopped_at(stop)
            with traced(life.pid, self.report, inject=inject, threads=threads) as tracer:
                life.go_on()
                yield life
                tracer.wait(DEADLINE)  # the life has ended: now the report has

    def calls_of(self, orders: Orders) -> list[Seen]:
        """The calls about files that an undisturbed life makes; those that tell the rig how it went are left out.

        Everything is put back before it: a start notes how the files look, and each time they are put back they look
        new. The life that is killed makes the same calls only if it begins with files as new.
        """
        self.put_back()
        with self.disturbed(orders) as life:
            report = life.end()
        self.assert_dealt(orders, report)
        calls = [call for call in seen(self.report) if call.concerns_files]
        return [call for at, call in enumerate(calls) if at % EVERY == 0 or not _is_amid(calls, at)]

    @contextmanager
    def halted(self, orders: Orders, point: Point) -> Iterator[Life]:
        """A life that stands still after a call, while others live on."""
        with self.disturbed(orders, stopping(point)) as life:
            wait_until_stopped(self.report)
            yield life

    def kill(self, orders: Orders, point: Point) -> None:
        """A life that is killed before a call."""
        with self.disturbed(orders, killing(point)) as life:
            life.end()
        assert was_killed(self.report), f"{point} was never reached"

    def refuse(self, orders: Orders, point: Point, error: str) -> Report:
        """A life of which one call is refused; what it tells."""
        with self.disturbed(orders, refusing(point, error)) as life:
            report = life.end()
        assert report is not None, "it was ended by a refusal"
        return report

    def assert_as_left(self) -> None:
        """Whatever a disturbed life left is nothing that a reader may not see, and nothing is claimed too early."""
        runs = self._runs()
        digests = set(runs.values())
        assert len(digests) == len(runs), "the same bytes are archived twice"
        if self._index_was_true:
            listed = self._listed()
            assert listed.items() <= runs.items(), "index.json lists what is not there"
            assert self._index_is_true(), "index.json lacks runs, and nothing tells so"
        for host in self.hosts:
            ledger, catalog, owed = host.rows()
            for path, digest, run in ledger:
                assert run is None or runs.get(run) == digest, f"{path} is acknowledged as {run}, which is not there"
                assert run is not None or self._is_kept(digest), f"{path} is acknowledged as rejected, and not kept"
            assert catalog.items() <= runs.items(), "the catalog has what is not there"
            announced = {event.partition(":")[2] for event in owed if event.startswith("run:")}
            assert announced <= {digest[:16] for digest in digests}, "owed is what is not there"
            assert len(set(owed)) == len(owed), "a message is owed twice"

    def assert_recovers(self) -> None:
        """Start each host, start it again, let it deal with all that is owed; raise where anything is wrong."""
        for host in self.hosts:
            self.live(host.orders())
            self._assert_follows(host)
        before = self._all()
        for number, host in enumerate(self.hosts):
            with self.lives.life(host.orders(host.files, stops=["0"])) as life:
                life.stopped_at("0")
                if number == 0:
                    assert self._all() == before, "a second start changed something"
                life.go_on()
                self.assert_dealt(host.orders(host.files), life.end())
        for host in self.hosts[:-1]:  # what the others did after its turn
            self.live(host.orders())
        for host in self.hosts:
            self._assert_follows(host)
        self.assert_all_archived_once()
        assert self._processing == {str(each.site.out): snapshot(each.site.out) for each in self.hosts}, (
            "a source changed"
        )

    def assert_survived(self) -> None:
        """The life that met with trouble dealt with all it was given; the next start has only to clear up."""
        for host in self.hosts:
            self._assert_state_follows(host)
            self.live(host.orders(host.files))
        self.assert_all_archived_once()

    def assert_all_archived_once(self) -> None:
        """All that trainers left is in the archive and owed, once each; nothing is half made."""
        files = {name: file(name) for host in self.hosts for name in host.files}
        summaries = [data for name, data in files.items() if name not in REJECTED]
        assert_archive_whole(self.archive, summaries)
        self.assert_nothing_half_made()
        kept = {path.parent.name for path in self.archive.glob("rejected/*/reason.json")}
        assert kept == {sha256(data)[:16] for name, data in files.items() if name in REJECTED}
        owed = sorted(event for host in self.hosts for event in host.rows().owed)
        assert owed == sorted(
            f"{'rejected' if name in REJECTED else 'run'}:{sha256(data)[:16]}"
            for name, data in files.items()
            if name not in self.unannounced
        ), "owed is not what was archived, once each"
        for host in self.hosts:
            known = {(path, digest) for path, digest, _ in host.rows().ledger}
            assert known == {(str(host.site.out / name), sha256(file(name))) for name in host.files}

    def assert_index_is_true(self) -> None:
        """index.json lists what the archive holds, and nobody needs to look."""
        assert self._listed() == self._runs(), "index.json is not what the archive holds"
        assert not (self.archive / MARKER_FILE).exists(), "the marker is still there"

    def assert_nothing_half_made(self) -> None:
        """No daemon lives: nothing staged, no temporary, no marker."""
        assert list((self.archive / ".staging").glob("*")) == [], "a staging folder was not swept"
        assert_nothing_half_made(self.archive)

    def _assert_follows(self, host: Host) -> None:
        """After a start of the host: index, catalog and outbox follow from the archive."""
        self.assert_index_is_true()
        self._assert_state_follows(host)
        if len(self.hosts) == 1:
            self.assert_nothing_half_made()

    def _assert_state_follows(self, host: Host) -> None:
        """Catalog and outbox have what the archive has."""
        runs = self._runs()
        rows = host.rows()
        assert rows.catalog == runs, "the catalog is not what the archive holds"
        if len(self.hosts) == 1:
            exempt = {sha256(file(name)) for name in self.unannounced}
            owed = [event for event in rows.owed if event.startswith("run:")]
            expected = [f"run:{digest[:16]}" for digest in runs.values() if digest not in exempt]
            assert owed == sorted(expected), "owed is not what the archive holds"

    def live(self, orders: Orders) -> None:
        """A whole life that nobody disturbs: it must deal with all it is given, without trouble."""
        with self.lives.life(orders) as life:
            self.assert_dealt(orders, life.end())

    def assert_dealt(self, orders: Orders, report: Report | None) -> None:
        """A life did what it was ordered, without trouble."""
        assert report is not None, "an undisturbed life was killed"
        trouble = [event for event in report.told() if event["event"] not in HARMLESS]
        had_trouble = bool(trouble or report.ended or report.unforeseen)
        assert not had_trouble, f"an undisturbed life had trouble: {report}"
        assert report.dealt == [path for batch in orders.batches for path in batch]

    def _all(self) -> tuple[object, ...]:
        """Everything that a start might change."""
        return contents(self.archive), [host.rows() for host in self.hosts]

    def _runs(self) -> dict[str, str]:
        """The archive's runs, sha256 by name; each must be whole."""
        folders = (
            [entry for entry in self.archive.iterdir() if is_run_name(entry.name)] if self.archive.exists() else []
        )
        return {folder.name: assert_run_whole(folder) for folder in folders}

    def _listed(self) -> dict[str, str]:
        return {entry["timestamp"]: entry["sha256"] for entry in index_of(self.archive)}

    def _index_is_true(self) -> bool:
        """Whether index.json lists all runs, or the marker tells that it may not."""
        try:
            return (self.archive / MARKER_FILE).exists() or self._listed() == self._runs()
        except json.JSONDecodeError:
            return False

    def _is_kept(self, digest: str) -> bool:
        folder = self.archive / "rejected" / digest[:16]
        return (folder / "reason.json").exists() and sha256((folder / "as_found").read_bytes()) == digest


HARMLESS: Final = frozenset({"summary_rejected", "commit_finished_for_another", "index_changed_by_another_hand"})
"""Warnings of a life that nobody disturbs. The last one also if the note of what was written could not be left."""

EARLIER: Final = ("early-1.json", "early-2.json")
WARM: Final = ("warm.json",)
ALONE: Final = ("alone.json",)
THREE: Final = ("a.json", "b.json", "c.json")
NOT: Final = ("not.json",)


class Scene(NamedTuple):
    """What a disturbed life finds and does.

    Attributes:
        prepare: makes what it finds.
        batches: what it does.
        stop: where the disturbance begins: "start", or a batch's number.
        others: files that wait and are not its business.
        unannounced: files whose messages went with a state that was lost.
    """

    prepare: Callable[[Place], None]
    batches: Sequence[Sequence[str]]
    stop: str
    others: Sequence[str] = ()
    unannounced: Sequence[str] = ()

    @property
    def files(self) -> Sequence[str]:
        """All that a trainer left."""
        return [*EARLIER, *(name for batch in self.batches for name in batch), *self.others]

    def orders(self, place: Place, *, tries: int = 1) -> Orders:
        """The disturbed life's."""
        return place.hosts[0].orders(*self.batches, stops=[self.stop], tries=tries)


def _is_amid(calls: Sequence[Seen], at: int) -> bool:
    """Whether the call writes a page, as the calls before and after it do to the same file."""
    of = {(each.point.call, each.path) for each in calls[max(0, at - 1) : at + 2]}
    return 0 < at < len(calls) - 1 and len(of) == 1 and calls[at].point.call == "pwrite64"


def nothing(_place: Place) -> None:
    """Nobody ever started here."""


def in_order(place: Place) -> None:
    """Two runs were archived, and the daemon stopped."""
    for name in EARLIER:
        place.live(place.hosts[0].orders([name]))


def killed_at(choose: Callable[[Seen], bool]) -> Callable[[Place], None]:
    """A daemon was killed amid three more runs, at the last call that is chosen."""

    def prepare(place: Place) -> None:
        in_order(place)
        place.keep()
        orders = place.hosts[0].orders(WARM, THREE, stops=["1"])
        point = [call.point for call in place.calls_of(orders) if choose(call)][-1]
        place.put_back()
        place.kill(orders, point)

    return prepare


def publishes(call: Seen) -> bool:
    """Whether the call gives a run its name."""
    return call.point.call == "renameat2" and is_run_name(Path(call.path).name)


def replaces_the_index(call: Seen) -> bool:
    """Whether the call gives index.json its next content."""
    return call.point.call == "renameat2" and call.path.endswith("/index.json")


def _removes_the_marker(call: Seen) -> bool:
    return call.point.call == "unlinkat" and call.path.endswith(MARKER_FILE)


def lost(name: str) -> Callable[[Place], None]:
    """Somebody removed something from the archive while no daemon ran."""

    def prepare(place: Place) -> None:
        in_order(place)
        path = place.archive / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return prepare


def torn_index(place: Place) -> None:
    """The index is cut off in the middle."""
    in_order(place)
    index = place.archive / "index.json"
    index.write_bytes(index.read_bytes()[:300])


SCENES: Final[Mapping[str, Scene]] = {
    "a_file": Scene(in_order, [WARM, ALONE], "1"),
    "three_files": Scene(in_order, [WARM, THREE], "1"),
    "a_file_without_the_spare": Scene(in_order, [ALONE], "0"),
    "no_summary": Scene(in_order, [WARM, NOT], "1"),
    "first_start_and_a_file": Scene(nothing, [EARLIER[:1]], "start"),
    "start": Scene(in_order, [], "start", ALONE),
    "start_after_staging": Scene(killed_at(publishes), [], "start", [*WARM, *THREE]),
    "start_after_renames": Scene(killed_at(replaces_the_index), [], "start", [*WARM, *THREE]),
    "start_after_the_index": Scene(killed_at(_removes_the_marker), [], "start", [*WARM, *THREE]),
    "start_without_index": Scene(lost("index.json"), [], "start"),
    "start_with_a_torn_index": Scene(torn_index, [], "start"),
    "start_without_state": Scene(lost(".state"), [], "start", ALONE, EARLIER),
}
"""The walk of a file, and of several, on a daemon that has its spare of the index (once without: all of the index is
written); and starts after whatever came before.

After staging: three runs are complete and have no name, but the first. After the renames: all have, the index and the
state lack them, the marker tells. After the index: only the state lacks them.
"""


class Violations:
    """What was wrong at which point: one that fails must not hide the others."""

    def __init__(self) -> None:
        self._found: list[str] = []

    @contextmanager
    def at(self, point: object) -> Iterator[None]:
        """Note what fails while entered."""
        try:
            yield
        except AssertionError as error:
            self._found.append(f"{point}: {error}")

    def assert_none(self) -> None:
        """Fail with all that was noted."""
        assert not self._found, f"{len(self._found)} violations\n" + "\n".join(self._found)


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder in memory where there is one, gone at the end."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@contextmanager
def playing(scene: Scene, lives: Subjects) -> Iterator[Place]:
    """A place at which a scene begins; `put_back` begins it again."""
    with scratch() as folder:
        place = Place(folder, lives)
        place.unannounced = frozenset(scene.unannounced)
        place.host("host", list(dict.fromkeys(scene.files)))
        scene.prepare(place)
        place.keep()
        yield place
