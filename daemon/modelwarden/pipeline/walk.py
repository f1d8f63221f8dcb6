"""A batch's straight walk: hash, stage, publish, index, record.

The rule: every step is idempotent and in this order. A source counts as dealt with only when the state's transaction
has committed; a crash anywhere before leads, started again, to the same archive.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from typing import Final, NamedTuple

import jiter
from pydantic_core import to_json

from modelwarden.archive.folders import oldest_first
from modelwarden.archive.outcomes import AlreadyArchived, Archived, Outcome, Postponed, Pruned, Rejected, Unfinished
from modelwarden.archive.publishing import Archive, NameTaken, Staged
from modelwarden.archive.record import original_name
from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.filesystems import path_text, show_path
from modelwarden.fingerprint import Fingerprint
from modelwarden.gate.json_object import NotJson
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import Source, iso_of
from modelwarden.gate.timestamp import format_timestamp, timestamp_in_name, timestamp_of_mtime
from modelwarden.log import log
from modelwarden.memory import give_back
from modelwarden.pipeline.crew import Crew
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.recording import Recorder, RunWithRows
from modelwarden.pipeline.staging import Candidate, Judging, StagedRun, Stager, Staging, Translation
from modelwarden.pipeline.suggestion import suggest_format
from modelwarden.pipeline.upkeep import Upkeep
from modelwarden.pipeline.workers import Orders, Workers
from modelwarden.state.database import Database
from modelwarden.state.ledger import Dealt
from modelwarden.state.messages import Route

MUCH_WORK: Final = 4 << 20
"""Bytes of summaries, from which on it is worth while to give back what their work needed."""


class Found(NamedTuple):
    """A summary's bytes, as read from a file that stood still meanwhile.

    Attributes:
        path: the file, or "" for a summary handed over in memory.
        data: its bytes.
        fingerprint: its fingerprint before and after the read; None for one in memory.
        summary: what a format made of the bytes; None: they are a summary.
        name: what the bytes are called in the archive, if a format read them.
        folder: of a group of files, whose bytes these are; "" of a file alone. `path` is the newest of them.
        members: all of them.
    """

    path: str
    data: bytes
    fingerprint: Fingerprint | None
    summary: bytes | None = None
    name: str = ""
    folder: str = ""
    members: tuple[tuple[str, Fingerprint], ...] = ()

    @property
    def files(self) -> Sequence[tuple[str, Fingerprint]]:
        """The files that are dealt with when this is; none of one in memory."""
        if self.fingerprint is None:
            return ()
        return self.members or ((self.path, self.fingerprint),)


class _Summary(NamedTuple):
    """One summary of a batch.

    Attributes:
        number: its place in the batch.
        found: its bytes, and where they were.
        sha256: of the bytes, hex.
    """

    number: int
    found: Found
    sha256: str


class Pipeline:
    """The walk over one archive and one state file.

    Args:
        archive: where runs go.
        database: the open state file.
        policies: what judges.
        routes: the destinations, or None (see Recorder).
        owner: what a run records as `daemon_id`: the state file's, or another if the run is not to be announced.
        host: the name that a run records as `archived_by`.
        clock: seconds since the epoch.
        deadline_seconds: how long a message may be tried.
        workers: the processes that stage a backlog; the caller's to close. None: no processes.
        judging: see Stager.
        may_make: whether a first start may make the archive.
        progress: called after each group, and each run that is recorded: long work is seen to go on.
        ring: see Recorder.

    Attributes:
        archive: as given.
        recorder: what the state remembers.
        upkeep: brings archive, index and state into line.
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
        workers: Workers | None = None,
        judging: Judging = nullcontext,
        *,
        may_make: bool = True,
        progress: Callable[[], object] = lambda: None,
        ring: Callable[[], object] = lambda: None,
    ) -> None:
        self.archive = archive
        self._progress = progress
        self.recorder = Recorder(
            database, archive.read, routes, clock, deadline_seconds, progress, ring, archive.pruned.find
        )
        self.upkeep = Upkeep(archive, self.recorder, database, host, clock, may_make=may_make)
        self._policies = policies
        self._clock = clock
        self._owner = owner
        self._host = host
        workers = workers or Workers(0)
        workers.begin(Orders(archive.root, archive.tree.staging, owner, host, policies.by_key))
        stager = Stager(archive.tree, policies.by_key, owner, host, judging)
        self._crew = Crew(stager, workers, self._candidate, lambda: archive.index_bytes_written)
        self._is_quiet = True
        self._worked_on = 0  # bytes, since memory was given back

    @property
    def owner(self) -> str:
        """What a run, or a decision, records as `daemon_id`."""
        return self._owner

    def close(self) -> None:
        """End the threads."""
        self._crew.rest()

    def rest(self) -> None:
        """Give back what much work needed, if there was none since this was called last: its threads and its memory."""
        was_quiet, self._is_quiet = self._is_quiet, True
        if was_quiet and self._worked_on > MUCH_WORK:
            self._worked_on = 0
            self._crew.rest()
            give_back()

    def hurry(self) -> None:
        """The batch under way is the last, and somebody waits for its end; safe in a signal handler."""
        self._crew.hurry()

    def policy_of(self, path: str) -> Policy:
        """What judges a file of this path."""
        return self._policies.of_path(path)

    def process(self, batch: Sequence[Found], *, final: bool = False, on_purpose: bool = False) -> list[Outcome]:
        """Walk a batch; one outcome a summary, in order.

        Args:
            batch: the summaries, any number of them.
            final: bytes that are no JSON object will not change any more: reject them too.
            on_purpose: somebody named these: what was pruned is archived again.
        """
        self._is_quiet = False
        self._worked_on += sum(len(found.data) for found in batch)
        summaries = [
            _Summary(number, found, hashlib.sha256(found.data).hexdigest()) for number, found in enumerate(batch)
        ]
        first: dict[str, _Summary] = {}
        for each in summaries:
            first.setdefault(each.sha256, each)
        outcomes: dict[int, Outcome] = {}
        try:
            self.archive.tree.enter_staging()
            for each, outcome in self._walk(list(first.values()), final=final, on_purpose=on_purpose):
                outcomes[each.number] = outcome
            twins = [
                (each, _of_twin(outcomes[first[each.sha256].number]))
                for each in summaries
                if each.number not in outcomes
            ]
            self._record(twins)
            outcomes |= {each.number: outcome for each, outcome in twins}
        except RetryLater as error:
            outcomes = {each.number: Postponed(error) for each in summaries} | outcomes
        finally:
            self.archive.tree.clear_staging()  # however the batch ended: what is still there was not published
            self.archive.tree.release_names()
        return [outcomes[each.number] for each in summaries]

    def reject(
        self, path: str, data: bytes, fingerprint: Fingerprint | None, error: RejectSummary, group: Found | None = None
    ) -> Rejected:
        """Keep a file that is not a summary, with its reason, once. `data` may be the beginning of a file too large.

        Args:
            path: the file.
            data: its bytes.
            fingerprint: its.
            error: the reason.
            group: what was read instead, if it is a group of files.

        Raises:
            RetryLater: the disk or the state file refused.
        """
        digest = hashlib.sha256(data)
        if group is None and fingerprint is not None and fingerprint.size > len(data):  # two that begin alike are two
            digest.update(b" and so on up to %d bytes" % fingerprint.size)
        return self._reject(_Summary(0, group or Found(path, data, fingerprint), digest.hexdigest()), error)

    def _walk(
        self, summaries: Sequence[_Summary], *, final: bool, on_purpose: bool
    ) -> Iterator[tuple[_Summary, Outcome]]:
        """Walk summaries of different bytes; each outcome once it is recorded, or needs no record."""
        known: list[tuple[_Summary, Outcome]] = []
        fresh: list[_Summary] = []
        for each in summaries:
            if (name := self.archive.find(each.sha256)) is None:
                fresh.append(each)
            else:
                known.append((each, AlreadyArchived(name)))
        if fresh and not on_purpose:
            pruned = self.archive.pruned.all()  # one look at the disk a batch
            known += [(each, Pruned(pruned[each.sha256])) for each in fresh if each.sha256 in pruned]
            fresh = [each for each in fresh if each.sha256 not in pruned]
        with closing(self._crew.stage(fresh)) as groups:
            for group in groups:
                yield from self._conclude(group, final=final, on_purpose=on_purpose)
                self._progress()
        self._record(known)
        yield from known

    def _conclude(
        self, group: Sequence[tuple[_Summary, Staging]], *, final: bool, on_purpose: bool
    ) -> Iterator[tuple[_Summary, Outcome]]:
        """Publish and record what is staged; what finds its name taken is rendered under the next and comes again."""
        done: list[tuple[_Summary, Outcome]] = []
        while group:
            staged: list[tuple[_Summary, StagedRun]] = []
            for each, staging in group:
                if isinstance(staging, StagedRun):
                    staged.append((each, staging))
                else:
                    yield each, self._without_run(each, staging, final=final)
            if not staged:  # nothing to commit is no reason to wait for the lock
                break
            committed, changes = self.archive.commit([Staged(run.folder, run.run, on_purpose) for _, run in staged])
            taken: list[_Summary] = []
            published: list[RunWithRows] = []
            for (each, run), outcome in zip(staged, committed, strict=True):
                if isinstance(outcome, NameTaken):
                    taken.append(each)
                    continue
                done.append((each, outcome))
                if isinstance(outcome, Archived):
                    published.append((outcome.run, run.models))
            self.recorder.note(changes, published)
            group = self._crew.stage_here(taken)
        self._record(done)
        yield from done

    def _without_run(self, summary: _Summary, error: RejectSummary | RetryLater, *, final: bool) -> Outcome:
        """What becomes of a summary that could not be staged."""
        match error:
            case RetryLater():
                return Postponed(error)
            case NotJson() if not final:
                return Unfinished(error)
            case RejectSummary():
                if summary.found.summary is None:
                    suggest_format(summary.found.path, error)
                return self._reject(summary, error)

    def _is_ours(self, identity: str) -> bool:
        """Whether this state's owner was the first to keep the rejected file, and so announces it."""
        try:
            kept = jiter.from_json(self.archive.tree.read_rejected(identity, "reason.json"))
        except ValueError:
            return True
        return not isinstance(kept, dict) or kept.get("daemon_id", self._owner) == self._owner

    def _candidate(self, summary: _Summary, reserve: bool) -> Candidate:
        """What staging must know."""
        found = summary.found
        timestamp = self._timestamp(found)
        return Candidate(
            found.data,
            summary.sha256,
            _source(found),
            iso_of(self._clock()),
            timestamp,
            self._policies.key_of(found.path),
            self.archive.tree.reserve_name(timestamp) if reserve else None,
            self._trainer(found),
        )

    def _trainer(self, found: Found) -> Translation | None:
        """What a format made of the bytes, and which run it takes the place of: the one that the path had before."""
        if found.summary is None:
            return None
        folder = self._policies.folder_of(found.path)
        name = "" if folder is None or folder.format is None else folder.format.name
        before = [run for path, _ in found.files if (run := self.recorder.ledger.run(path)) is not None]
        return Translation(found.summary, name, original_name(found.name), max(before, key=oldest_first, default=None))

    def _timestamp(self, found: Found) -> str:
        """The run's timestamp if the summary has none: the file name's, else the file's time, else now."""
        named = timestamp_in_name(os.path.basename(found.path))
        if named is not None:
            return named
        if found.fingerprint is not None:
            return timestamp_of_mtime(found.fingerprint.modified / 1e9)
        return format_timestamp(datetime.fromtimestamp(self._clock(), UTC))

    def _record(self, done: Sequence[tuple[_Summary, Outcome]]) -> None:
        """One transaction for what became of these."""
        if not done:
            return
        if any(isinstance(outcome, Archived | AlreadyArchived | Pruned) for _, outcome in done):
            self.archive.tree.insist()  # what was looked for in another folder, or synced there, is not archived
        now = self._clock()
        self.recorder.record([dealt for each, outcome in done for dealt in _dealt(each, outcome, now)])

    def _reject(self, summary: _Summary, error: RejectSummary) -> Rejected:
        identity = summary.sha256[:16]
        rejected = Rejected(error)
        source = _source(summary.found)
        at = iso_of(self._clock())
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
            "sha256": hashlib.sha256(summary.found.data).hexdigest(),
            "size": source.size,
        }
        folder = self.archive.tree.keep_rejected(
            identity, {"as_found": summary.found.data, "reason.json": to_json(document, indent=2) + b"\n"}
        )
        self.archive.tree.insist()
        shown = show_path(summary.found.folder or summary.found.path)
        text = f"{shown}\n{rejected.reason}\nkept in {folder}\nhost: {self._host}"
        dealt = _dealt(summary, rejected, self._clock())
        new = self.recorder.reject(
            identity, at, source.path, rejected.reason, text, dealt, ours=self._is_ours(identity)
        )
        log.warning("summary_rejected", path=source.path, reason=rejected.reason, kept=folder, again=not new)
        return rejected


def _of_twin(first: Outcome) -> Outcome:
    """What becomes of the same bytes a second time in a batch."""
    return AlreadyArchived(first.run.timestamp) if isinstance(first, Archived) else first


_TICK_SECONDS: Final = 2.0
"""The coarsest clock of a file system (FAT); others without fractions have one second."""


def _is_too_young(fingerprint: Fingerprint, now: float) -> bool:
    """Whether the file may change once more and look the same: its times have no fractions, and it just changed."""
    return fingerprint.changed % 1_000_000_000 == 0 and now - fingerprint.changed / 1e9 < _TICK_SECONDS


def _dealt(summary: _Summary, outcome: Outcome, now: float) -> Sequence[Dealt]:
    """The ledger's rows of a summary that needs no more work, one a file; none for one handed over in memory."""
    name: str | None = None
    reason: str | None = None
    match outcome:
        case Archived(run):
            name = run.timestamp
        case AlreadyArchived(known) | Pruned(known):
            name = known
        case Rejected():
            reason = outcome.reason
        case Unfinished() | Postponed():
            return ()
    # One that is too young is known, and looked at once more by the next scan.
    return [
        Dealt(path, each._replace(changed=0) if _is_too_young(each, now) else each, summary.sha256, name, reason)
        for path, each in summary.found.files
    ]


def _source(found: Found) -> Source:
    mtime = None if found.fingerprint is None else iso_of(found.fingerprint.modified / 1e9)
    size = len(found.data) if found.fingerprint is None or found.folder else found.fingerprint.size
    return Source(path_text(found.folder or found.path), size, mtime)
