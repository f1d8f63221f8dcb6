"""A batch's straight walk: hash, stage, publish, index, record.

The rule: every step is idempotent and in this order. A source counts as dealt with only when the state's transaction
has committed; a crash anywhere before leads, started again, to the same archive.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

import jiter
from pydantic_core import to_json

from modelwarden.archive.publishing import (
    Archive,
    Changes,
    Duplicate,
    NameTaken,
    NotPublished,
    Published,
    Staged,
)
from modelwarden.archive.record import RunRecord, Source
from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.events import log
from modelwarden.filesystems import doubt_of_locks, path_text, show_path
from modelwarden.fingerprint import Fingerprint
from modelwarden.gate.json_object import NotJson
from modelwarden.gate.timestamp import format_timestamp, timestamp_in_name, timestamp_of_mtime
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.recognition import adopt, recognise
from modelwarden.pipeline.recording import Recorder
from modelwarden.pipeline.staging import DRAFTS, Candidate, Judging, StagedRun, Stager, Staging
from modelwarden.pipeline.workers import STOP_SECONDS, Orders, WorkerLost, Workers
from modelwarden.state.catalog import Catalog
from modelwarden.state.database import Database
from modelwarden.state.expectations import Expectations
from modelwarden.state.ledger import Dealt, Ledger
from modelwarden.state.outbox import Event, Outbox, Route

GROUP: Final = 64
"""Most runs that are published, indexed and recorded together: what that costs is paid once a group."""

BACKLOG: Final = 2 * GROUP
"""From so many new summaries in a batch on, worker processes are worth their start."""


class Found(NamedTuple):
    """A summary's bytes, as read from a file that stood still meanwhile.

    Attributes:
        path: the file, or "" for a summary handed over in memory.
        data: its bytes.
        fingerprint: its fingerprint before and after the read; None for one in memory.
    """

    path: str
    data: bytes
    fingerprint: Fingerprint | None


class Archived(NamedTuple):
    """The bytes became this run."""

    run: RunRecord


class AlreadyArchived(NamedTuple):
    """The same bytes are this run since earlier."""

    name: str


class Rejected(NamedTuple):
    """The bytes are kept under `rejected/` with what is wrong with them."""

    error: RejectSummary

    @property
    def reason(self) -> str:
        """The same as text, a line for each problem."""
        return str(self.error)


class Unfinished(NamedTuple):
    """The bytes are no JSON object (yet): whoever read them decides how long to wait."""

    error: RejectSummary

    @property
    def reason(self) -> str:
        """Why not, as text."""
        return str(self.error)


class Postponed(NamedTuple):
    """The disk, the lock or a right was in the way; the source is still owed."""

    error: RetryLater


Outcome = Archived | AlreadyArchived | Rejected | Unfinished | Postponed


@dataclass(slots=True)
class _Item:
    """One summary on its way through the batch; the fields fill from top to bottom."""

    found: Found
    sha256: str
    staging: Staging | None = None
    outcome: Outcome | None = None
    is_recorded: bool = False


class Pipeline:
    """The walk over one archive and one state file.

    Args:
        archive: where runs go.
        database: the open state file.
        policies: what judges.
        routes: the destinations, or None (see Recorder).
        owner: what a run records as `daemon_id`: the state file's, or another where the run is not to be announced.
        host: the name that a run records as `archived_by`.
        clock: seconds since the epoch.
        deadline_seconds: how long a message may be tried.
        workers: how many processes may stage a backlog; fewer than two: none.
        judging: see Stager.
        may_make: whether a first start may make the archive.
    """

    def __init__(
        self,
        archive: Archive,
        database: Database,
        policies: Policies,
        routes: Sequence[Route] | None,
        owner: str,
        host: str,
        clock: Callable[[], float],
        deadline_seconds: float,
        workers: int = 0,
        judging: Judging = nullcontext,
        *,
        may_make: bool = True,
    ) -> None:
        self.archive = archive
        self._database = database
        self._may_make = may_make
        self._recorder = Recorder(database, archive.read, routes, clock, deadline_seconds)
        self._policies = policies
        self._clock = clock
        self._owner = owner
        self._host = host
        self._stager = Stager(archive.tree, policies.by_name, owner, host, judging)
        self._workers = Workers(Orders(archive.root, archive.tree.staging, owner, host, policies.by_name), workers)
        self._in_haste = False

    @property
    def ledger(self) -> Ledger:
        """Which files were dealt with."""
        return self._recorder.ledger

    @property
    def catalog(self) -> Catalog:
        """The archive's runs, to ask of."""
        return self._recorder.catalog

    @property
    def outbox(self) -> Outbox:
        """What is owed."""
        return self._recorder.outbox

    @property
    def expectations(self) -> Expectations:
        """The folders that may not fall silent."""
        return self._recorder.expectations

    def close(self) -> None:
        """End the threads and the workers."""
        self._workers.close()
        self._stager.close()

    def hurry(self) -> None:
        """The batch under way is the last, and somebody waits for its end; safe in a signal handler."""
        self._in_haste = True

    def rest(self) -> None:
        """There is no backlog: the workers may go."""
        self._workers.dismiss()

    def recover(self) -> None:
        """Start-up: see that it is the archive, sweep half-made runs, then archive -> index -> state.

        Raises:
            NotTheArchive: the folder does not hold the archive that the state knows; nothing was changed.
            RetryLater: the lock could not be had, or the disk or the state file refused.
        """
        self.recognise()
        swept = self.archive.tree.sweep()
        changes, owed = self._reconcile(rebuild=False)
        log.info(
            "reconciled",
            runs=len(self.archive),
            index_repaired=changes.repaired,
            swept=swept,
            added_to_catalog=len(changes.appeared),
            removed_from_catalog=len(changes.vanished),
            messages_owed=owed,
        )

    def rebuild(self) -> None:
        """Make the index and the catalog again from the archive's folders, whatever they say now.

        Raises:
            NotTheArchive: the folder does not hold the archive that the state knows; nothing was changed.
            RetryLater: the lock could not be had, or the disk or the state file refused.
        """
        self.recognise()
        self._reconcile(rebuild=True)
        # A lock that could be had says that a process is dead only where it tells of all hosts.
        self.archive.tree.sweep(everybody=doubt_of_locks(self.archive.root) is None)

    def recognise(self, *, mends: bool = True) -> None:
        """See to it that the folder holds the archive that the state knows (see pipeline.recognition)."""
        recognise(self.archive, self.catalog, self._database, may_make=self._may_make, mends=mends)

    def adopt(self) -> str:
        """Make what is in the folder the archive that the state knows; return its id."""
        return adopt(self.archive, self.catalog, self._database)

    def forget_missing(self) -> int:
        """Let go of the runs that the archive no longer has; return how many. Raises RetryLater where refused."""
        with self._database.transaction():
            return self.catalog.forget_missing()

    def _reconcile(self, *, rebuild: bool) -> tuple[Changes, int]:
        """Archive -> index -> state; what that changed, and how many messages it owes."""
        known = dict(self.catalog.digests())  # before the archive's: who publishes meanwhile did not vanish
        changes = self.archive.reconcile(rebuild=rebuild)
        there = self.archive.digests()
        changes.appeared = [name for name in self.archive.names() if rebuild or known.get(name) != there[name]]
        changes.vanished = sorted(name for name, sha256 in known.items() if there.get(name) != sha256)
        self._recorder.expect(changes)
        return changes, self._recorder.record()

    def catch_up(self) -> None:
        """Record what was refused before. Raises RetryLater where it still is."""
        self._recorder.catch_up()

    def announce(self, event: Event) -> None:
        """Owe a problem's message. Raises RetryLater where the state file refuses."""
        self._recorder.announce(event)

    def owe(self, event: Event) -> None:
        """The same inside the caller's transaction."""
        self._recorder.owe(event)

    def forget(self, paths: Sequence[str]) -> None:
        """Let the ledger drop files that are gone."""
        self._recorder.forget(paths)

    def process(self, batch: Sequence[Found], *, final: bool = False) -> list[Outcome]:
        """Walk a batch; one outcome a summary, in order.

        Args:
            batch: the summaries, any number of them.
            final: bytes that are no JSON object will not change any more: reject them too.
        """
        items = [_Item(found, hashlib.sha256(found.data).hexdigest()) for found in batch]
        first: dict[str, _Item] = {}
        for item in items:
            first.setdefault(item.sha256, item)
        try:
            self.archive.tree.enter_staging()
            with closing(self._stage([item for item in first.values() if not self._is_archived(item)])) as groups:
                for group in groups:
                    self._publish(group, final=final)
                    self._record(group)
            for item in items:
                if item is not first[item.sha256]:
                    item.outcome = _of_twin(first[item.sha256].outcome)
            self._record([item for item in items if not item.is_recorded])
        except RetryLater as error:
            for item in items:
                if not (item.is_recorded or isinstance(item.outcome, Rejected | Unfinished)):  # settled by themselves
                    item.outcome = Postponed(error)
        finally:
            self._clear_away(items)
        return [_certain(item.outcome) for item in items]

    def reject(self, path: str, data: bytes, fingerprint: Fingerprint | None, error: RejectSummary) -> Rejected:
        """Keep a file that is not a summary, with its reason, once. `data` may be the beginning of a file too large.

        Raises:
            RetryLater: the disk or the state file refused.
        """
        digest = hashlib.sha256(data)
        if fingerprint is not None and fingerprint.size > len(data):  # two that begin alike are two
            digest.update(b" and so on up to %d bytes" % fingerprint.size)
        return self._reject(_Item(Found(path, data, fingerprint), digest.hexdigest()), error)

    def _is_archived(self, item: _Item) -> bool:
        """Whether the item's way ends here."""
        if (name := self.archive.find(item.sha256)) is not None:
            item.outcome = AlreadyArchived(name)
        return item.outcome is not None

    def _stage(self, items: Sequence[_Item]) -> Generator[Sequence[_Item]]:
        """Stage all; hand them on in groups as they are ready, in order."""
        if len(items) >= BACKLOG:
            self._workers.call()
        done = 0
        while done < len(items):
            if len(items) - done > GROUP and self._workers.is_ready():
                yield from self._stage_by_workers(items[done:])
                return
            group = items[done : done + GROUP]
            self._stage_here(group)
            done += GROUP
            yield group

    def _stage_here(self, items: Sequence[_Item]) -> None:
        outcomes = self._stager.stage([self._candidate(item) for item in items])
        for item, outcome in zip(items, outcomes, strict=True):
            item.staging = outcome

    def _stage_by_workers(self, items: Sequence[_Item]) -> Generator[Sequence[_Item]]:
        """The same by the workers, who go on while a group is published and recorded."""
        chunks = [items[start : start + DRAFTS] for start in range(0, len(items), DRAFTS)]
        answers = [self._workers.stage([self._candidate(item, reserve=True) for item in chunk]) for chunk in chunks]
        group: list[_Item] = []
        asked = list(zip(chunks, answers, strict=True))
        try:
            while asked:
                chunk, answer = asked.pop(0)
                try:
                    for item, outcome in zip(chunk, self._answer(answer), strict=True):
                        item.staging = outcome
                except WorkerLost:
                    log.warning("worker_lost", files=[show_path(item.found.path) for item in chunk])
                    self._stage_here(chunk)
                group += chunk
                if len(group) >= GROUP or not asked:
                    yield group
                    group = []
        finally:  # the batch ended early: what is staged already must be known, to be cleared away
            for chunk, answer in asked:
                if not answer.cancel():
                    with suppress(WorkerLost):
                        for item, outcome in zip(chunk, self._answer(answer), strict=True):
                            item.staging = outcome

    def _answer(self, answer: Future[list[Staging]]) -> list[Staging]:
        """Wait for a worker's answer; one in haste does not wait long for a worker that stands still.

        Raises:
            WorkerLost: it died, or was killed for its silence.
        """
        while True:
            try:
                return answer.result(STOP_SECONDS)
            except TimeoutError:
                if self._in_haste:
                    self._workers.kill()

    def _is_ours(self, identity: str) -> bool:
        """Whether this state's owner was the first to keep the rejected file, and so announces it."""
        try:
            kept = jiter.from_json(self.archive.tree.read_rejected(identity, "reason.json"))
        except ValueError:
            return True
        return not isinstance(kept, dict) or kept.get("daemon_id", self._owner) == self._owner

    def _candidate(self, item: _Item, *, reserve: bool = False) -> Candidate:
        """What staging must know. A worker can't see what others reserve: its name is reserved here."""
        timestamp = self._timestamp(item.found)
        return Candidate(
            item.found.data,
            item.sha256,
            _source(item.found),
            _iso(self._clock()),
            timestamp,
            self._policies.of_path(item.found.path).name,
            self.archive.tree.reserve_name(timestamp) if reserve else None,
        )

    def _timestamp(self, found: Found) -> str:
        """The run's timestamp where the summary has none: the file name's, else the file's time, else now."""
        named = timestamp_in_name(os.path.basename(found.path))
        if named is not None:
            return named
        if found.fingerprint is not None:
            return timestamp_of_mtime(found.fingerprint.modified / 1e9)
        return format_timestamp(datetime.fromtimestamp(self._clock(), UTC))

    def _publish(self, group: Sequence[_Item], *, final: bool) -> None:
        """Commit what is staged; what finds its name taken is rendered under the next and comes again."""
        while group:
            staged = [(item, run) for item in group if (run := self._staged(item, final=final)) is not None]
            if not staged:  # nothing to commit is no reason to wait for the lock
                return
            outcomes, changes = self.archive.commit([Staged(run.folder, run.run) for _, run in staged])
            again: list[_Item] = []
            live = []
            for (item, run), outcome in zip(staged, outcomes, strict=True):
                match outcome:
                    case Published(record):
                        item.outcome = Archived(record)
                        live.append((record, run.models))
                    case Duplicate(name):
                        item.outcome = AlreadyArchived(name)
                    case NotPublished(error):
                        item.outcome = Postponed(error)
                    case NameTaken():
                        again.append(item)
            self._recorder.expect(changes, live)
            if again:
                self._stage_here(again)
            group = again

    def _staged(self, item: _Item, *, final: bool) -> StagedRun | None:
        """The staged run; None where there is none, and the item's way ends here."""
        match item.staging:
            case StagedRun():
                return item.staging
            case NotJson() as error if not final:
                item.outcome = Unfinished(error)
            case RejectSummary() as error:
                item.outcome = self._reject(item, error)
            case RetryLater() as error:
                item.outcome = Postponed(error)
            case None:
                raise AssertionError(f"{item.found.path}: waited for before it was staged")
        return None

    def _record(self, items: Sequence[_Item]) -> None:
        """One transaction for what became of them."""
        if not items:
            return
        if any(isinstance(item.outcome, Archived | AlreadyArchived) for item in items):
            self.archive.insist()  # what was looked for in another folder, or synced there, is not archived
        self._recorder.record([dealt for item in items for dealt in _dealt(item, self._clock())])
        for item in items:
            item.is_recorded = True

    def _clear_away(self, items: Sequence[_Item]) -> None:
        """Leave nothing half-made, however the batch ended: what is still staged was not published."""
        for item in items:
            if isinstance(item.staging, StagedRun) and not isinstance(item.outcome, Archived):
                self.archive.tree.discard(item.staging.folder)
        self.archive.tree.release_names()

    def _reject(self, item: _Item, error: RejectSummary) -> Rejected:
        identity = item.sha256[:16]
        rejected = Rejected(error)
        source = _source(item.found)
        at = _iso(self._clock())
        document = {
            "path": source.path,
            "reason": rejected.reason,
            "where": error.where,
            "what": error.what,
            "hint": error.hint,
            "problems": [problem._asdict() for problem in error.problems],
            "more": error.more,
            "rejected_at": at,
            "daemon_id": self._owner,
            "sha256": hashlib.sha256(item.found.data).hexdigest(),
            "size": source.size,
        }
        folder = self.archive.tree.keep_rejected(
            identity, {"as_found": item.found.data, "reason.json": to_json(document, indent=2) + b"\n"}
        )
        self.archive.insist()
        text = f"{show_path(item.found.path)}\n{rejected.reason}\nkept in {folder}\nhost: {self._host}"
        dealt = list(_dealt(_Item(item.found, item.sha256, outcome=rejected), self._clock()))
        new = self._recorder.reject(
            identity, at, source.path, rejected.reason, text, dealt, ours=self._is_ours(identity)
        )
        log.warning("summary_rejected", path=source.path, reason=rejected.reason, kept=folder, again=not new)
        return rejected


def _certain(outcome: Outcome | None) -> Outcome:
    if outcome is None:
        raise AssertionError("the walk ended without an outcome")
    return outcome


def _of_twin(first: Outcome | None) -> Outcome | None:
    """What becomes of the same bytes a second time in a batch."""
    return AlreadyArchived(first.run.timestamp) if isinstance(first, Archived) else first


_TICK_SECONDS: Final = 2.0
"""The coarsest clock of a file system (FAT); others without fractions have one second."""


def _is_too_young(fingerprint: Fingerprint, now: float) -> bool:
    """Whether the file may change once more and look the same: its times have no fractions, and it just changed."""
    return fingerprint.changed % 1_000_000_000 == 0 and now - fingerprint.changed / 1e9 < _TICK_SECONDS


def _dealt(item: _Item, now: float) -> Sequence[Dealt]:
    """The ledger's row of an item that needs no more work; none for a summary handed over in memory."""
    path, _, fingerprint = item.found
    if fingerprint is None:
        return ()
    if _is_too_young(fingerprint, now):
        fingerprint = fingerprint._replace(changed=0)  # known, and looked at once more by the next scan
    match item.outcome:
        case Archived(run):
            return (Dealt(path, fingerprint, item.sha256, run.timestamp, None),)
        case AlreadyArchived(name):
            return (Dealt(path, fingerprint, item.sha256, name, None),)
        case Rejected() as rejected:
            return (Dealt(path, fingerprint, item.sha256, None, rejected.reason),)
        case Unfinished() | Postponed() | None:
            return ()


def _source(found: Found) -> Source:
    mtime = None if found.fingerprint is None else _iso(found.fingerprint.modified / 1e9)
    size = len(found.data) if found.fingerprint is None else found.fingerprint.size
    return Source(path_text(found.path), size, mtime)


def _iso(seconds: float) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # a file's time beyond year 9999
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
