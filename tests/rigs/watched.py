"""One watched folder, its daemon, and what must have become of everything that was left there.

The rule: a test says what it leaves, and the end holds all of it to "once": one run, one index entry, one message owed,
nothing half made, and nothing of what nobody left. Before the end one more summary is left and waited for, so that
everything that happened earlier was followed.
"""

import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from invariants import assert_archive_whole, assert_nothing_half_made, sha256
from processes import Daemon, Site, destination, drop, index_of, make_site, outbox_of, running_daemon, until
from rigs.mounts import PrivateMounts
from summaries import encoded, random_summary

TEAM: Final = destination("team", "json://127.0.0.1:9/hook", "APPROVED", "REVIEW", "DROP", "REJECTED")
"""Wants to hear of everything; the daemons run without a courier, so what it is owed stays in the outbox."""

PATIENT: Final = 1_000
"""Seconds that a test never waits: for a timer, or for a file to be given up, where neither is what it is about."""


@dataclass(frozen=True)
class SiteInMount(Site):
    """A site with its state in a mount. SQLite resolves its path and would come out there: it gets a copy."""

    copy: Path = field(kw_only=True)

    @property
    def state(self) -> Path:
        shutil.rmtree(self.copy, ignore_errors=True)
        return Path(shutil.copytree(super().state, self.copy))


class Watched:
    """A watched folder and its archive; a daemon only while `daemon` is entered.

    Args:
        folder: where everything is.
        mounts: the namespace that the daemon is to run in.
        scan_every: seconds between scans; so long that what a test waits for came by an event, unless told otherwise.
        reject_after: seconds until what does not parse is given up.
        intake: more lines of `[intake]`.
        watch: the watched folders, as TOML, where it is not just `out`.
        state_beside: whether the state is kept beside the archive instead of in it.
        out: the watched folder, where it is shared with others; the state is to be beside then.
        archive: the archive, where it is shared with others.
        destinations: as TOML.

    Attributes:
        site: its paths; where it lies in a namespace, as this process sees them.
        expected: the bytes that are to be archived.
        rejected: the bytes that are to be rejected.
        forgotten: of the former, those whose messages went with a state file that was deleted.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mounts: PrivateMounts | None = None,
        scan_every: float = PATIENT,
        reject_after: float = PATIENT,
        intake: str = "",
        watch: str = "",
        state_beside: bool = False,
        out: Path | None = None,
        archive: Path | None = None,
        destinations: str = TEAM,
    ) -> None:
        seen = folder if mounts is None else mounts.seen(folder)
        made = make_site(
            seen,
            destinations,
            watch=watch or f'[[watch]]\npath = "{out or "out"}"\n',
            intake=f"scan_every_seconds = {scan_every}\n{intake}",
            archive="archive" if archive is None else str(archive),
            level="debug",
        )
        text = made.config.read_text(encoding="utf-8")
        text = text.replace("\nreject_after_seconds = 1\n", f"\nreject_after_seconds = {reject_after}\n")
        made.config.write_text('state_dir = "state"\n' * state_beside + text, encoding="utf-8")
        self._config = folder / made.config.name
        self._how: Sequence[str | os.PathLike[str]] = () if mounts is None else mounts.how
        self._prefix = "" if mounts is None else str(mounts.seen(Path("/"))).rstrip("/")
        self.site = Site(seen)
        if state_beside:
            self.site = Site(seen, out, archive, folder / "state")
        elif mounts is not None:
            self.site = SiteInMount(seen, copy=folder / "copy-of-the-state")
        self.expected: list[bytes] = []
        self.rejected: list[bytes] = []
        self.forgotten: list[bytes] = []
        self._daemons: list[Daemon] = []
        self._count = 0

    @contextmanager
    def daemon(
        self,
        *,
        how: Sequence[str | os.PathLike[str]] = (),
        env: Mapping[str, str] | None = None,
        ready: str | None = "ready",
    ) -> Iterator[Daemon]:
        """Run one. Where it runs at the end still, it is let catch up and stopped."""
        arguments = ("--no-courier", "--config", self._config)
        log = self.site.folder / f"log-{len(self._daemons) + 1}"  # what an earlier one said is not this one's
        with running_daemon(*arguments, log=log, how=[*self._how, *how], env=env, ready=ready) as daemon:
            self._daemons.append(daemon)
            yield daemon
            if daemon.process.poll() is None:
                self.caught_up()
                assert daemon.stop() == 0

    @property
    def latest(self) -> Daemon:
        """The daemon of this moment, or the last one."""
        return self._daemons[-1]

    def summary(self, **fields: Any) -> bytes:
        """New bytes that are to be archived, with a timestamp of their own."""
        self._count += 1
        return self.expect(encoded(random_summary(self._count, models=3, points=4) | fields))

    def expect(self, data: bytes) -> bytes:
        """Bytes that are to be archived."""
        self.expected.append(data)
        return data

    def rubbish(self, data: bytes) -> bytes:
        """Bytes that are to be rejected."""
        self.rejected.append(data)
        return data

    def drop(self, data: bytes, name: str = "summary.json") -> Path:
        """Rename a finished file into the watched folder."""
        return drop(data, self.site.out, name)

    def archived(self, *summaries: bytes) -> list[dict[str, Any]]:
        """Wait until all of these are archived; return their index entries."""

        def entries() -> list[dict[str, Any]]:
            assert self.latest.process.poll() is None, self.latest.log.read_text()
            of = {entry["sha256"]: entry for entry in index_of(self.site.archive)}
            found = [of[sha256(data)] for data in summaries if sha256(data) in of]
            return found if len(found) == len(summaries) else []

        return until(entries, f"{len(summaries)} summaries to be archived")

    def caught_up(self) -> None:
        """Wait until every event so far was followed: one more summary, behind all others, has arrived."""
        data = self.summary(by=str(self.site.folder))
        self.drop(data, f"last-{self._count}-{self.site.folder.name}.json")
        self.archived(data)

    def hears(self) -> bool:
        """Whether one more summary is archived without a scan: the watch works."""
        scans = len(self.latest.events("scanned"))
        self.caught_up()
        return len(self.latest.events("scanned")) == scans

    def logged(self, event: str, path: Path) -> list[dict[str, Any]]:
        """The latest daemon's events of that name about a path."""
        told = str(path).removeprefix(self._prefix)
        return [each for each in self.latest.events(event) if told in {each.get("path"), each.get("source")}]

    def known_paths(self) -> set[str]:
        """Which files the ledger knows."""
        with closing(sqlite3.connect(self.site.state / "modelwarden.sqlite")) as connection:
            return {os.fsdecode(path) for (path,) in connection.execute("SELECT path FROM files")}

    def assert_once(self) -> list[dict[str, Any]]:
        """All that was left is one run or one rejection, and one message each; return the index entries."""
        return assert_once_among(self)


def assert_once_among(*sharing: Watched) -> list[dict[str, Any]]:
    """The same for several that share an archive: what two were left is one run, and one of them announces it."""
    (archive,) = {each.site.archive for each in sharing}
    expected = list(dict.fromkeys(data for each in sharing for data in each.expected))
    rejected = list(dict.fromkeys(data for each in sharing for data in each.rejected))
    entries = assert_archive_whole(archive, expected)
    assert_nothing_half_made(archive)
    shelves = {path.parent.name: json.loads(path.read_bytes()) for path in archive.glob("rejected/*/reason.json")}
    assert sorted(reason["sha256"] for reason in shelves.values()) == sorted(sha256(data) for data in rejected)
    owed = sorted(row["event"] for each in sharing for row in outbox_of(each.site.state))
    forgotten = [data for each in sharing for data in each.forgotten]
    runs = [f"run:{sha256(data)[:16]}" for data in expected if data not in forgotten]
    assert owed == sorted(runs + [f"rejected:{name}" for name in shelves])
    return entries


@contextmanager
def lock_held(archive: Path) -> Iterator[None]:
    """While entered, this process has the archive's lock: whoever wants to publish waits."""
    with (archive / ".index.lock").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def watching(folder: Path, *, reject_after: float = PATIENT, intake: str = "") -> Iterator[Watched]:
    """A daemon over an empty folder, found by events alone; at the end all that was left is held to "once"."""
    watched = Watched(folder, reject_after=reject_after, intake=intake)
    with watched.daemon():
        yield watched
    watched.assert_once()
