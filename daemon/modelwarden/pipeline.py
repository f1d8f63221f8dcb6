"""A batch's straight walk: hash, parse, judge, stage, publish, index, record.

The rule: every step is idempotent and in this order. A source counts as dealt with only when the state's transaction
has committed; a crash anywhere before leads, started again, to the same archive.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pydantic_core import to_json

from modelwarden.archive.document import RunRecord, Source, record_of
from modelwarden.archive.publishing import (
    Archive,
    Changes,
    Duplicate,
    NameTaken,
    NotPublished,
    Published,
    Staged,
    run_files,
)
from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.events import log
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import NotJson, Summary, parse_summary
from modelwarden.gate.timestamp import format_timestamp, timestamp_in_name, timestamp_of_mtime
from modelwarden.state.catalog import Catalog, CatalogRun
from modelwarden.state.database import Database
from modelwarden.state.ledger import Dealt, Figures, Ledger
from modelwarden.state.outbox import Event, Kind, Outbox, Route

STAGING_THREADS: Final = 8
"""Runs that are staged at once: a disk merges concurrent fsyncs."""


class Found(NamedTuple):
    """A summary's bytes, as read from a file that stood still meanwhile.

    Attributes:
        path: the file, or "" for a summary handed over in memory.
        data: its bytes.
        figures: its stat figures before and after the read; None for one in memory.
    """

    path: str
    data: bytes
    figures: Figures | None


class Archived(NamedTuple):
    """The bytes became this run."""

    run: RunRecord
    assessments: Sequence[Assessment]


class AlreadyArchived(NamedTuple):
    """The same bytes are this run since earlier."""

    name: str


class Rejected(NamedTuple):
    """The bytes are kept under `rejected/` with this reason."""

    reason: str


class Unfinished(NamedTuple):
    """The bytes are no JSON object (yet): whoever read them decides how long to wait."""

    reason: str


class Postponed(NamedTuple):
    """The disk, the lock or a right was in the way; the source is still owed."""

    error: RetryLater


Outcome = Archived | AlreadyArchived | Rejected | Unfinished | Postponed


@dataclass(slots=True)
class _Item:
    """One summary on its way through the batch."""

    found: Found
    sha256: str
    summary: Summary | None = None
    assessments: Sequence[Assessment] = ()
    run: RunRecord | None = None
    outcome: Outcome | None = None


class Pipeline:
    """The walk over one archive and one state file.

    Args:
        archive: where runs go.
        database: the open state file.
        policy: what judges.
        routes: the destinations, for the outbox rows. None where the caller has no say in what is announced (a command
            that asks, the Python API): own runs it comes upon are left to the daemon.
        host: the name that a run records as `archived_by`.
        clock: seconds since the epoch.
        deadline_seconds: how long a message may be tried.
    """

    def __init__(
        self,
        archive: Archive,
        database: Database,
        policy: Policy,
        routes: Sequence[Route] | None,
        host: str,
        clock: Callable[[], float],
        deadline_seconds: float,
    ) -> None:
        self.archive = archive
        self.ledger = Ledger(database)
        self.catalog = Catalog(database)
        self.outbox = Outbox(database)
        self._database = database
        self._policy = policy
        self._routes = routes
        self._host = host
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._pool = ThreadPoolExecutor(STAGING_THREADS, thread_name_prefix="stage")

    def close(self) -> None:
        """End the staging threads."""
        self._pool.shutdown()

    def recover(self) -> None:
        """Start-up: sweep half-made runs, then archive -> index -> state.

        Raises:
            RetryLater: the lock could not be had, or the disk refused.
        """
        swept = self.archive.tree.sweep()
        changes = self.archive.reconcile()
        there, known = set(self.archive.names()), self.catalog.names()
        gone = sorted(known - there)
        missing = [name for name in self.archive.names() if name not in known]
        owed = self._learn(Changes(appeared=missing, vanished=gone))
        log.info(
            "reconciled",
            runs=len(self.archive),
            index_repaired=changes.repaired,
            swept=swept,
            added_to_catalog=len(missing),
            removed_from_catalog=len(gone),
            messages_owed=owed,
        )

    def rebuild(self) -> None:
        """Make the index and the catalog again from the archive's folders, whatever they say now.

        Raises:
            RetryLater: the lock could not be had, or the disk refused.
        """
        self.archive.reconcile(rebuild=True)
        names = self.archive.names()
        self._learn(Changes(appeared=names, vanished=sorted(self.catalog.names().difference(names))))

    def process(self, batch: Sequence[Found], *, final: bool = False) -> list[Outcome]:
        """Walk a batch; one outcome a summary, in order.

        Args:
            batch: the summaries, any number of them.
            final: bytes that are no JSON object will not change any more: reject them too.
        """
        items = [_Item(found, hashlib.sha256(found.data).hexdigest()) for found in batch]
        try:
            self._judge(items, final=final)
            self._publish(items)
        except RetryLater as error:
            for item in items:
                if item.outcome is None:
                    item.outcome = Postponed(error)
        return [_certain(item) for item in items]

    def reject(self, path: str, data: bytes, figures: Figures | None, error: RejectSummary) -> Rejected:
        """Keep a file that is not a summary, with its reason, once. `data` may be a part of a file too large.

        Raises:
            RetryLater: the disk refused.
        """
        item = _Item(Found(path, data, figures), hashlib.sha256(data).hexdigest())
        return self._reject(item, error)

    def forget(self, paths: Sequence[str]) -> None:
        """Let the ledger drop files that are gone."""
        with self._database.transaction():
            self.ledger.forget(paths)

    def _judge(self, items: Sequence[_Item], *, final: bool) -> None:
        """Everything that needs no disk: who is new, who is a summary, what each model is worth."""
        first: dict[str, _Item] = {}
        for item in items:
            if first.setdefault(item.sha256, item) is not item:
                continue  # a twin in this batch: settled with the first
            if (name := self.archive.find(item.sha256)) is not None:
                item.outcome = AlreadyArchived(name)
                self._note_known([item])
                continue
            try:
                item.summary = parse_summary(item.found.data, self._policy.gates)
            except NotJson as error:
                item.outcome = self._reject(item, error) if final else Unfinished(str(error))
            except RejectSummary as error:
                item.outcome = self._reject(item, error)
            else:
                item.assessments = assess_summary(item.summary, self._policy)

    def _publish(self, items: Sequence[_Item]) -> None:
        pending = [item for item in items if item.summary is not None]
        while pending:
            self._name(pending)
            staged = self._stage(pending)
            ready = [item for item in pending if item.outcome is None]
            outcomes, changes = self.archive.commit([staged[item.sha256] for item in ready])
            pending = []
            for item, outcome in zip(ready, outcomes, strict=True):
                match outcome:
                    case Published(run):
                        item.outcome = Archived(run, item.assessments)
                    case Duplicate(name):
                        item.outcome = AlreadyArchived(name)
                    case NotPublished(error):
                        item.outcome = Postponed(error)
                    case NameTaken():
                        pending.append(item)
            self._record(ready, changes)
        by_bytes = {item.sha256: item for item in items if item.outcome is not None}
        twins = [item for item in items if item.outcome is None]
        for item in twins:
            match outcome_of_first := _certain(by_bytes[item.sha256]):
                case Archived(run, _):
                    item.outcome = AlreadyArchived(run.timestamp)
                case _:
                    item.outcome = outcome_of_first
        self._note_known(twins)

    def _name(self, items: Sequence[_Item]) -> None:
        """Give each a name that is free as far as can be seen; the rename decides."""
        taken: set[str] = set()
        archived_at = _iso(self._clock())
        for item in items:
            name = self.archive.tree.free_name(self._timestamp(item), taken)
            taken.add(name)
            if item.run is not None:
                item.run = replace(item.run, timestamp=name)
                continue
            summary = item.summary
            item.run = record_of(
                item.assessments,
                timestamp=name,
                run_name=summary.run_name if summary else None,
                archived_at=archived_at,
                archived_by=self._host,
                daemon_id=self._database.daemon_id,
                source=_source(item.found),
                sha256=item.sha256,
                reward_scale=summary.reward_scale if summary else None,
                policy=self._policy,
            )

    def _timestamp(self, item: _Item) -> str:
        """The run's timestamp: the summary's own, else the file name's, else the file's time, else now."""
        if item.summary is not None and item.summary.timestamp is not None:
            return item.summary.timestamp
        named = timestamp_in_name(os.path.basename(item.found.path))
        if named is not None:
            return named
        if item.found.figures is not None:
            return timestamp_of_mtime(item.found.figures[3] / 1e9)
        return format_timestamp(datetime.fromtimestamp(self._clock(), UTC))

    def _stage(self, items: Sequence[_Item]) -> Mapping[str, Staged]:
        """Stage each on its own thread; who fails is postponed, the others go on."""
        tree = self.archive.tree
        tree.enter_staging()

        def stage(item: _Item) -> Staged | RetryLater:
            run = _certain_run(item)
            try:
                return Staged(tree.stage(run_files(run, item.found.data, item.assessments)), run)
            except RetryLater as error:
                return error

        staged: dict[str, Staged] = {}
        for item, result in zip(items, self._pool.map(stage, items), strict=True):
            if isinstance(result, RetryLater):
                item.outcome = Postponed(result)
            else:
                staged[item.sha256] = result
        return staged

    def _record(self, items: Sequence[_Item], changes: Changes) -> None:
        """One transaction: catalog, outbox and ledger; what others published comes along."""
        events = []
        with self._database.transaction():
            self._learn_inside(changes)
            for item in items:
                if isinstance(item.outcome, Archived):
                    run = item.outcome.run
                    row = _catalog_run(run)
                    self.catalog.add(row, run.policy, item.assessments, announced=True)
                    events.append(_run_event(row))
            self._owe(events)
            dealt = list(_dealt(items))
            self.ledger.record(dealt)
        self.ledger.remember(dealt)
        for item in items:
            if isinstance(item.outcome, Archived):
                run = item.outcome.run
                log.info(
                    "run_archived",
                    run=run.timestamp,
                    approved=run.approved_count,
                    review=run.review_count,
                    dropped=run.dropped_count,
                    source=run.source.path,
                )

    def _note_known(self, items: Sequence[_Item]) -> None:
        """The same bytes under another path or with another time: no run, the ledger notes the path."""
        dealt = list(_dealt(items))
        if dealt:
            with self._database.transaction():
                self.ledger.record(dealt)
            self.ledger.remember(dealt)

    def _reject(self, item: _Item, error: RejectSummary) -> Rejected:
        identity = item.sha256[:16]
        reason = str(error)
        shown = _source(item.found)
        at = _iso(self._clock())
        document = {
            "path": shown.path,
            "reason": reason,
            "where": error.where,
            "what": error.what,
            "hint": error.hint,
            "rejected_at": at,
            "sha256": item.sha256,
            "size": len(item.found.data),
        }
        folder = self.archive.tree.keep_rejected(
            identity, {"as_found": item.found.data, "reason.json": to_json(document, indent=2) + b"\n"}
        )
        item.outcome = Rejected(reason)
        dealt = list(_dealt([item]))
        with self._database.transaction():
            new = self.ledger.reject(identity, at, shown.path, reason)
            if new:
                text = f"{shown.path}\n{reason}\nkept in {folder}"
                self._owe([Event(f"rejected:{identity}", Kind.REJECTED, (Kind.REJECTED,), None, text)])
            self.ledger.record(dealt)
        self.ledger.remember(dealt)
        log.warning("summary_rejected", path=shown.path, reason=reason, kept=folder, again=not new)
        return Rejected(reason)

    def _learn(self, changes: Changes) -> int:
        with self._database.transaction():
            return self._learn_inside(changes)

    def _learn_inside(self, changes: Changes) -> int:
        """Catalog what appeared in the archive without this process, and announce what is owed; return the rows.

        A run that this state's owner archived and could not record any more (it died between the index and the
        transaction) is owed its messages. What others archived, or what was there before this state file was
        made, carries another daemon_id and is never announced here.
        """
        self.catalog.remove(changes.vanished)
        for name in changes.appeared:
            try:
                run, assessments = self.archive.read(name)
            except (ValueError, LookupError) as error:
                log.warning("run_unreadable", run=name, reason=str(error))
                continue
            foreign = run.daemon_id != self._database.daemon_id
            self.catalog.add(_catalog_run(run), run.policy, assessments, announced=foreign)
        if self._routes is None:
            return 0
        owed = self._owe(_run_event(run) for run in self.catalog.unannounced())
        self.catalog.mark_announced()
        return owed

    def _owe(self, events: Iterable[Event]) -> int:
        now = self._clock()
        return self.outbox.owe(events, self._routes or (), now, now + self._deadline_seconds)


def _certain(item: _Item) -> Outcome:
    if item.outcome is None:
        raise AssertionError(f"{item.found.path}: the walk ended without an outcome")
    return item.outcome


def _certain_run(item: _Item) -> RunRecord:
    if item.run is None:
        raise AssertionError(f"{item.found.path}: staged before it was named")
    return item.run


def _dealt(items: Iterable[_Item]) -> Iterable[Dealt]:
    for item in items:
        path, _, figures = item.found
        if figures is None:
            continue
        match item.outcome:
            case Archived(run, _):
                yield Dealt(path, figures, item.sha256, run.timestamp, None)
            case AlreadyArchived(name):
                yield Dealt(path, figures, item.sha256, name, None)
            case Rejected(reason):
                yield Dealt(path, figures, item.sha256, None, reason)
            case Unfinished() | Postponed() | None:
                continue


def _run_event(run: CatalogRun) -> Event:
    topics = [classification for classification, count in run.counts.items() if count]
    return Event(f"run:{run.sha256[:16]}", Kind.RUN, topics, run.timestamp, None)


def _catalog_run(run: RunRecord) -> CatalogRun:
    return CatalogRun(
        timestamp=run.timestamp,
        run_name=run.run_name,
        archived_at=run.archived_at,
        archived_by=run.archived_by,
        daemon_id=run.daemon_id,
        source=run.source.path,
        source_size=run.source.size,
        source_mtime=run.source.mtime,
        sha256=run.sha256,
        reward_scale=run.reward_scale,
        policy=run.policy.id,
        approved_count=run.approved_count,
        review_count=run.review_count,
        dropped_count=run.dropped_count,
    )


def _source(found: Found) -> Source:
    mtime = None if found.figures is None else _iso(found.figures[3] / 1e9)
    # A name on disk is bytes: what is no UTF-8 is written so that a person can tell it.
    return Source(os.fsencode(found.path).decode("utf-8", "backslashreplace"), len(found.data), mtime)


def _iso(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # a file's time beyond year 9999
        return datetime.fromtimestamp(0, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
