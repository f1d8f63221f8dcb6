"""From a summary's bytes to a run on disk that only lacks its name: parse, judge, render, write, sync.

The rule: nothing here touches the lock, the index or the state, so that any process may do it; what it returns is
complete on disk, or a reason why not.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple

from modelwarden.archive.encoding import encode_assessments
from modelwarden.archive.record import ASSESSMENTS_FILE, REPORT_FILE, SUMMARY_FILE
from modelwarden.archive.report import render_report
from modelwarden.archive.tree import Draft, Tree
from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord, Source, class_counts
from modelwarden.gate.summary import parse_summary
from modelwarden.memory import forget_trace
from modelwarden.state.rows import ModelRow, model_rows

SYNC_THREADS: Final = 8
"""Runs that are synced at once: a disk merges concurrent fsyncs."""

DRAFTS: Final = 16
"""Most runs that are written and not synced yet: each keeps three files open."""


Judging = Callable[[str], AbstractContextManager[object]]


class Translation(NamedTuple):
    """What a format made of a trainer's bytes.

    Attributes:
        summary: the summary's bytes.
        format: its name.
        name: what the trainer's bytes are called in the run's folder.
        supersedes: the run that the same path was before, or None.
    """

    summary: bytes
    format: str
    name: str
    supersedes: str | None


class Candidate(NamedTuple):
    """A summary that may become a run.

    Attributes:
        data: its bytes.
        sha256: of them, hex.
        source: where it was found.
        archived_at: ISO 8601 in UTC.
        timestamp: the run's, if the summary names none.
        policy: the key of the one that judges: the settings say so by the folder, and never the summary.
        name: reserved for the case that the run has that timestamp; None: reserve one.
        trainer: what a format made of the bytes; None: they are a summary.
    """

    data: bytes
    sha256: str
    source: Source
    archived_at: str
    timestamp: str
    policy: str
    name: str | None = None
    trainer: Translation | None = None


class StagedRun(NamedTuple):
    """A run that is complete on disk under a name of no meaning.

    Attributes:
        folder: where it is.
        run: what it says of itself, its name to be included.
        models: the catalog's rows.
    """

    folder: str
    run: RunRecord
    models: Sequence[ModelRow]


Staging = StagedRun | RejectSummary | RetryLater
"""What becomes of a candidate: a staged run; bytes that are no summary; or a disk that refused."""


class Stager:
    """Makes runs of candidates.

    Args:
        tree: where they are staged; `enter_staging` was called.
        policies: what judges, by key.
        owner: what a run records as `daemon_id`.
        host: what it records as `archived_by`.
        judging: entered with a summary's sha256 while its bytes are worked on, and nothing is waited for.
    """

    def __init__(
        self, tree: Tree, policies: Mapping[str, Policy], owner: str, host: str, judging: Judging = nullcontext
    ) -> None:
        self._tree = tree
        self._policies = policies
        self._owner = owner
        self._host = host
        self._judging = judging
        self._pool: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """End the threads; a next batch that needs some has new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def stage(self, batch: Sequence[Candidate]) -> list[Staging]:
        """One outcome a candidate, in order."""
        outcomes: list[Staging] = []
        for start in range(0, len(batch), DRAFTS):
            outcomes += self._stage_some(batch[start : start + DRAFTS])
        return outcomes

    def _stage_some(self, batch: Sequence[Candidate]) -> list[Staging]:
        outcomes: list[Staging] = []
        drafts: list[Draft] = []
        try:
            outcomes.extend(self._write(candidate, drafts) for candidate in batch)
        except BaseException:
            for draft in drafts:
                draft.discard()
            raise
        # All are written before the first is waited for: the disk has begun with most of it.
        failures = dict(zip([draft.folder for draft in drafts], self._sync_all(drafts), strict=True))
        return [
            outcome if not isinstance(outcome, StagedRun) else failures[outcome.folder] or outcome
            for outcome in outcomes
        ]

    def _write(self, candidate: Candidate, drafts: list[Draft]) -> Staging:
        """Parse, judge, render, write. What is waited for stands between the first two `with` and after them."""
        try:
            with self._judging(candidate.sha256):
                policy, trainer = self._policies[candidate.policy], candidate.trainer
                summary = parse_summary(candidate.data if trainer is None else trainer.summary, policy)
                assessments = assess_summary(summary, policy)
            name = self._name(candidate, summary.timestamp)
            with self._judging(candidate.sha256):
                run = RunRecord(
                    timestamp=name,
                    run_name=summary.run_name,
                    archived_at=candidate.archived_at,
                    archived_by=self._host,
                    daemon_id=self._owner,
                    source=candidate.source,
                    sha256=candidate.sha256,
                    reward_scale=summary.reward_scale,
                    policy=policy,
                    **class_counts(assessments),
                    format=None if trainer is None else trainer.format,
                    original=None if trainer is None else trainer.name,
                    supersedes=None if trainer is None else trainer.supersedes,
                )
                files = run_files(run, candidate.data if trainer is None else trainer.summary, assessments)
                if trainer is not None:
                    files = {trainer.name: candidate.data, **files}
                rows = model_rows(assessments)
            draft = self._tree.draft()
        except (RejectSummary, RetryLater) as error:
            forget_trace(error)
            return error
        try:
            for file, data in files.items():
                draft.write(file, data)
        except RetryLater as error:
            draft.discard()
            return error
        except BaseException:
            draft.discard()
            raise
        drafts.append(draft)
        return StagedRun(draft.folder, run, rows)

    def _sync_all(self, drafts: Sequence[Draft]) -> Sequence[RetryLater | None]:
        """Sync all, each thread its share: to hand a thread one draft after the other costs more than to sync it."""
        if len(drafts) <= 1:
            return _sync_some(drafts)
        size = math.ceil(len(drafts) / SYNC_THREADS)
        shares = [drafts[start : start + size] for start in range(0, len(drafts), size)]
        return [failure for share in self._threads().map(_sync_some, shares) for failure in share]

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="sync")
        return self._pool

    def _name(self, candidate: Candidate, timestamp: str | None) -> str:
        """The run's name: free as far as can be seen; the rename decides."""
        timestamp = timestamp or candidate.timestamp
        if candidate.name is not None and timestamp == candidate.timestamp:
            return candidate.name
        return self._tree.reserve_name(timestamp)


def _sync_some(drafts: Sequence[Draft]) -> list[RetryLater | None]:
    return [_sync(draft) for draft in drafts]


def _sync(draft: Draft) -> RetryLater | None:
    try:
        draft.sync()
    except RetryLater as error:
        return error
    return None


def run_files(run: RunRecord, summary: bytes, assessments: Sequence[Assessment]) -> Mapping[str, bytes]:
    """The three files of a run, by name."""
    return {
        SUMMARY_FILE: summary,
        ASSESSMENTS_FILE: encode_assessments(run, assessments),
        REPORT_FILE: render_report(run, assessments).encode(),
    }
