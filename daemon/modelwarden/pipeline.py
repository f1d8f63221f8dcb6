"""A batch's straight walk: hash, parse, judge, stage, publish, index, record.

The rule: every step is idempotent and in this order. A source counts as dealt with only when the state's transaction
has committed; a crash anywhere before leads, started again, to the same archive.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
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
from modelwarden.filesystems import path_text, show_path
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import NotJson, Summary, parse_summary
from modelwarden.gate.timestamp import format_timestamp, timestamp_in_name, timestamp_of_mtime
from modelwarden.recording import Recorder
from modelwarden.state.catalog import Catalog
from modelwarden.state.database import Database
from modelwarden.state.ledger import Dealt, Figures, Ledger
from modelwarden.state.outbox import Outbox, Route

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
    """One summary on its way through the batch; the fields fill from top to bottom."""

    found: Found
    sha256: str
    summary: Summary | None = None
    assessments: Sequence[Assessment] = ()
    run: RunRecord | None = None
    staging: Future[str] | None = None
    outcome: Outcome | None = None


class Pipeline:
    """The walk over one archive and one state file.

    Args:
        archive: where runs go.
        database: the open state file.
        policy: what judges.
        routes: the destinations, or None (see Recorder).
        owner: what a run records as `daemon_id`: the state file's, or another where the run is not to be announced.
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
        owner: str,
        host: str,
        clock: Callable[[], float],
        deadline_seconds: float,
    ) -> None:
        self.archive = archive
        self._recorder = Recorder(database, archive.read, routes, clock, deadline_seconds)
        self._owner = owner
        self._policy = policy
        self._host = host
        self._clock = clock
        self._pool = ThreadPoolExecutor(STAGING_THREADS, thread_name_prefix="stage")

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

    def close(self) -> None:
        """End the staging threads."""
        self._pool.shutdown()

    def recover(self) -> None:
        """Start-up: sweep half-made runs, then archive -> index -> state.

        Raises:
            RetryLater: the lock could not be had, or the disk or the state file refused.
        """
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
            RetryLater: the lock could not be had, or the disk or the state file refused.
        """
        self._reconcile(rebuild=True)

    def _reconcile(self, *, rebuild: bool) -> tuple[Changes, int]:
        """Archive -> index -> state; what that changed, and how many messages it owes."""
        known = self.catalog.names()  # before the archive's: who publishes meanwhile is then no run that vanished
        changes = self.archive.reconcile(rebuild=rebuild)
        names = self.archive.names()
        changes.appeared = [name for name in names if rebuild or name not in known]
        changes.vanished = sorted(known.difference(names))
        self._recorder.expect(changes)
        return changes, self._recorder.record()

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
            self._publish([item for item in first.values() if self._begin(item, final=final)])
            for item in items:
                if item is not first[item.sha256]:
                    item.outcome = _of_twin(first[item.sha256].outcome)
            self._recorder.record([dealt for item in items for dealt in _dealt(item)])
        except RetryLater as error:
            for item in items:
                if not isinstance(item.outcome, Rejected | Unfinished):  # those are settled by themselves
                    item.outcome = Postponed(error)
        finally:
            self._clear_away(items)
        for item in items:
            if isinstance(item.outcome, Archived):
                _log_archived(item.outcome.run)
        return [_certain(item.outcome) for item in items]

    def reject(self, path: str, data: bytes, figures: Figures | None, error: RejectSummary) -> Rejected:
        """Keep a file that is not a summary, with its reason, once. `data` may be a part of a file too large.

        Raises:
            RetryLater: the disk or the state file refused.
        """
        return self._reject(_Item(Found(path, data, figures), hashlib.sha256(data).hexdigest()), error)

    def _begin(self, item: _Item, *, final: bool) -> bool:
        """Judge and begin to stage; False where the item's way ends here."""
        if (name := self.archive.find(item.sha256)) is not None:
            item.outcome = AlreadyArchived(name)
            return False
        try:
            item.summary = parse_summary(item.found.data, self._policy.gates)
        except NotJson as error:
            item.outcome = self._reject(item, error) if final else Unfinished(str(error))
            return False
        except RejectSummary as error:
            item.outcome = self._reject(item, error)
            return False
        item.assessments = assess_summary(item.summary, self._policy)
        self._stage(item, item.summary)
        return True

    def _stage(self, item: _Item, summary: Summary) -> None:
        """Name the run, render its files and let a thread put them on disk while the next one is judged.

        The name is free as far as can be seen; the rename decides.
        """
        name = self.archive.tree.reserve_name(self._timestamp(item, summary))
        if item.run is not None:
            item.run = replace(item.run, timestamp=name)
        else:
            item.run = record_of(
                item.assessments,
                timestamp=name,
                run_name=summary.run_name,
                archived_at=_iso(self._clock()),
                archived_by=self._host,
                daemon_id=self._owner,
                source=_source(item.found),
                sha256=item.sha256,
                reward_scale=summary.reward_scale,
                policy=self._policy,
            )
        files = run_files(item.run, item.found.data, item.assessments)
        item.staging = self._pool.submit(self.archive.tree.stage, files)

    def _timestamp(self, item: _Item, summary: Summary) -> str:
        """The run's timestamp: the summary's own, else the file name's, else the file's time, else now."""
        if summary.timestamp is not None:
            return summary.timestamp
        named = timestamp_in_name(os.path.basename(item.found.path))
        if named is not None:
            return named
        if item.found.figures is not None:
            return timestamp_of_mtime(item.found.figures[3] / 1e9)
        return format_timestamp(datetime.fromtimestamp(self._clock(), UTC))

    def _publish(self, pending: Sequence[_Item]) -> None:
        """Commit what is staged; what finds its name taken is rendered under the next and comes again."""
        while pending:
            ready = [(item, staged) for item in pending if (staged := _wait_for(item)) is not None]
            outcomes, changes = self.archive.commit([staged for _, staged in ready])
            again: list[_Item] = []
            for (item, _), outcome in zip(ready, outcomes, strict=True):
                match outcome:
                    case Published(run):
                        item.outcome = Archived(run, item.assessments)
                    case Duplicate(name):
                        item.outcome = AlreadyArchived(name)
                    case NotPublished(error):
                        item.outcome = Postponed(error)
                    case NameTaken():
                        again.append(item)
            self._recorder.expect(changes, [item.outcome for item in pending if isinstance(item.outcome, Archived)])
            for item in again:
                if item.summary is not None:
                    self._stage(item, item.summary)
            pending = again

    def _clear_away(self, items: Sequence[_Item]) -> None:
        """Leave nothing half-made, however the batch ended: what is still staged was not published."""
        for item in items:
            if item.staging is not None and not isinstance(item.outcome, Archived):
                with suppress(RetryLater):
                    self.archive.tree.discard(item.staging.result())
        self.archive.tree.release_names()

    def _reject(self, item: _Item, error: RejectSummary) -> Rejected:
        identity = item.sha256[:16]
        rejected = Rejected(str(error))
        source = _source(item.found)
        at = _iso(self._clock())
        document = {
            "path": source.path,
            "reason": rejected.reason,
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
        text = f"{show_path(item.found.path)}\n{rejected.reason}\nkept in {folder}"
        dealt = list(_dealt(_Item(item.found, item.sha256, outcome=rejected)))
        new = self._recorder.reject(identity, at, source.path, rejected.reason, text, dealt)
        log.warning("summary_rejected", path=source.path, reason=rejected.reason, kept=folder, again=not new)
        return rejected


def _wait_for(item: _Item) -> Staged | None:
    """The staged run; None where staging failed, and the item is postponed."""
    if item.staging is None or item.run is None:
        raise AssertionError(f"{item.found.path}: waited for before it was staged")
    try:
        return Staged(item.staging.result(), item.run)
    except RetryLater as error:
        item.outcome = Postponed(error)
        return None


def _certain(outcome: Outcome | None) -> Outcome:
    if outcome is None:
        raise AssertionError("the walk ended without an outcome")
    return outcome


def _of_twin(first: Outcome | None) -> Outcome | None:
    """What becomes of the same bytes a second time in a batch."""
    return AlreadyArchived(first.run.timestamp) if isinstance(first, Archived) else first


def _dealt(item: _Item) -> Sequence[Dealt]:
    """The ledger's row of an item that needs no more work; none for a summary handed over in memory."""
    path, _, figures = item.found
    if figures is None:
        return ()
    match item.outcome:
        case Archived(run, _):
            return (Dealt(path, figures, item.sha256, run.timestamp, None),)
        case AlreadyArchived(name):
            return (Dealt(path, figures, item.sha256, name, None),)
        case Rejected(reason):
            return (Dealt(path, figures, item.sha256, None, reason),)
        case Unfinished() | Postponed() | None:
            return ()


def _log_archived(run: RunRecord) -> None:
    log.info(
        "run_archived",
        run=run.timestamp,
        approved=run.approved_count,
        review=run.review_count,
        dropped=run.dropped_count,
        source=run.source.path,
    )


def _source(found: Found) -> Source:
    mtime = None if found.figures is None else _iso(found.figures[3] / 1e9)
    return Source(path_text(found.path), len(found.data), mtime)


def _iso(seconds: float) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # a file's time beyond year 9999
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
