"""The archive as a whole: a batch of staged runs becomes part of it under one lock, or nothing happens to it.

The rule: the order is stage, lock, rename, sync (the commit point), index, unlock. Before the first rename a marker
is left beside the index, and removed after the index is written: whoever takes the lock next sees that somebody died
between, and brings the index up to the archive.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from modelwarden import durable
from modelwarden.archive.document import (
    ASSESSMENTS_FILE,
    REPORT_FILE,
    SUMMARY_FILE,
    RunRecord,
    decode_assessments,
    encode_assessments,
    encode_entry,
)
from modelwarden.archive.index import Index, index_lock
from modelwarden.archive.report import render_report
from modelwarden.archive.tree import Tree
from modelwarden.errors import RetryLater, UnknownRun
from modelwarden.events import log
from modelwarden.gate.assessment import Assessment

MARKER_FILE: Final = ".index.dirty"
"""Present while an index may lack runs that are already in the archive. Its existence is the message: it needs no
sync of its own, for after a power cut every process that shares the disk starts, and starting reconciles."""

LOCK_TIMEOUT: Final = 10.0
"""Seconds to wait for the lock before the batch is put back; the caller tries again."""


class Staged(NamedTuple):
    """A run that is complete on disk under a name of no meaning."""

    folder: str
    run: RunRecord


class Published(NamedTuple):
    """The run has its name and is in the index."""

    run: RunRecord


class Duplicate(NamedTuple):
    """The same bytes are archived already, as this run."""

    name: str


class NameTaken(NamedTuple):
    """Something else has the run's name: render it again with the next one."""

    run: RunRecord


class NotPublished(NamedTuple):
    """The disk refused this run's rename; its source is still owed."""

    error: RetryLater


Outcome = Published | Duplicate | NameTaken | NotPublished


@dataclass(slots=True)
class Changes:
    """What others did to the archive since this process last held the lock.

    Attributes:
        appeared: runs to add to the catalog.
        vanished: runs to take out of it.
        repaired: whether index.json had to be written anew.
    """

    appeared: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    repaired: bool = False


class Archive:
    """Runs on disk and their index.

    Args:
        root: the archive directory; made where missing.
        owner: whose half-made runs are swept at start (see Tree).
    """

    def __init__(self, root: str, owner: str) -> None:
        self.tree = Tree(root, owner)
        self._index = Index(self.tree.root, self.tree.private("index.json"))
        self._marker = os.path.join(self.tree.root, MARKER_FILE)

    @property
    def root(self) -> str:
        """The archive directory, absolute."""
        return self.tree.root

    def __len__(self) -> int:
        return len(self._index)

    def names(self) -> list[str]:
        """All runs as of the last look, oldest first."""
        return self._index.names()

    def find(self, sha256: str) -> str | None:
        """The run of these bytes as of the last look, or None."""
        return self._index.find(sha256)

    def close(self) -> None:
        """Give up the staging folder and the index's spare."""
        self._index.close()
        self.tree.close()

    def reconcile(self, *, rebuild: bool = False) -> Changes:
        """Make the index equal to the archive and return what that changed.

        Args:
            rebuild: do not believe the index even where it reads well; make every line again.

        Raises:
            RetryLater: the lock could not be had, or the disk refused.
        """
        with index_lock(self.root, LOCK_TIMEOUT):
            before = set(self._index.names())
            repaired = self._compare_with_archive(rebuild=rebuild)
            return self._changes_since(before, repaired=repaired)

    def commit(self, batch: Sequence[Staged]) -> tuple[list[Outcome], Changes]:
        """Publish a batch: one outcome a staged run, in order, and what others did meanwhile.

        Once this returns, every `Published` run survives a power cut and is in index.json.

        Raises:
            RetryLater: the lock, a sync or the index failed. Runs that were renamed stay, the marker with them:
                trying again finds them by their bytes. Nothing was acknowledged.
        """
        try:
            with index_lock(self.root, LOCK_TIMEOUT):
                before = set() if self._is_current() else set(self._index.names())
                changes = self._catch_up(before)
                return self._publish(batch), changes
        finally:
            for staged in batch:
                if os.path.isdir(staged.folder):
                    self.tree.discard(staged.folder)

    def _publish(self, batch: Sequence[Staged]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        self.tree.enter_staging()
        self._leave_marker()
        for staged in batch:
            outcome = self._rename(staged)
            outcomes.append(outcome)
            if isinstance(outcome, Published):
                # In memory at once, so that a twin later in the batch is seen; nobody else reads this before the sync.
                self._index.add(outcome.run.timestamp, outcome.run.sha256, encode_entry(outcome.run))
        if any(isinstance(outcome, Published) for outcome in outcomes):
            try:
                self.tree.sync()
                self._index.write()
            except BaseException:
                self._index.load()  # what is in memory was never promised
                raise
        self._remove_marker()
        return outcomes

    def _rename(self, staged: Staged) -> Outcome:
        if (name := self._index.find(staged.run.sha256)) is not None:
            return Duplicate(name)
        try:
            self.tree.publish(staged.folder, staged.run.timestamp)
        except FileExistsError:
            return NameTaken(staged.run)
        except RetryLater as error:
            return NotPublished(error)
        return Published(staged.run)

    def _is_current(self) -> bool:
        return self._index.is_current() and not os.path.lexists(self._marker)

    def _catch_up(self, before: set[str]) -> Changes:
        """Under the lock: learn what others published, and finish what somebody who died left half done."""
        if os.path.lexists(self._marker):
            log.warning("commit_finished_for_another", archive=self.root)
            repaired = self._compare_with_archive(rebuild=False)
            return self._changes_since(before, repaired=repaired)
        if self._index.is_current():
            return Changes()
        repaired = False
        if not self._index.load():
            repaired = self._compare_with_archive(rebuild=True)
        return self._changes_since(before, repaired=repaired)

    def _compare_with_archive(self, *, rebuild: bool) -> bool:
        """Under the lock: the folders are the truth; True where index.json was written anew."""
        readable = self._index.load()
        if rebuild or not readable:
            for name in self._index.names():
                self._index.discard(name)
        there = set(self.tree.run_names())
        changed = rebuild or not readable
        for name in self._index.names():
            if name not in there:
                self._index.discard(name)
                changed = True
        for name in sorted(there):
            if name not in self._index and self._read_into_index(name):
                changed = True
        if changed:
            self.tree.enter_staging()
            self._index.write()
        self._remove_marker()
        return changed

    def _read_into_index(self, name: str) -> bool:
        """Index a folder that is a run; False for one that only looks like it."""
        if not self.tree.is_complete(name):
            log.warning("foreign_folder_left_alone", archive=self.root, folder=name)
            return False
        try:
            run, _ = self.read(name)
        except (ValueError, UnknownRun) as error:
            log.warning("foreign_folder_left_alone", archive=self.root, folder=name, reason=str(error))
            return False
        if run.timestamp != name:
            log.warning("foreign_folder_left_alone", archive=self.root, folder=name, reason="renamed by hand")
            return False
        self._index.add(name, run.sha256, encode_entry(run))
        return True

    def _changes_since(self, before: set[str], *, repaired: bool) -> Changes:
        after = self._index.names()
        return Changes(
            appeared=[name for name in after if name not in before],
            vanished=sorted(before.difference(after)),
            repaired=repaired,
        )

    def read(self, name: str) -> tuple[RunRecord, list[Assessment]]:
        """A run and its assessments.

        Raises:
            UnknownRun: the archive has no such run.
            ValueError: its model_assessments.json is damaged.
        """
        return decode_assessments(self.tree.read(name))

    def _leave_marker(self) -> None:
        try:
            os.close(os.open(self._marker, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))
        except OSError as error:
            raise RetryLater(f"can't write ({error.strerror})", where=self._marker) from error

    def _remove_marker(self) -> None:
        with suppress(OSError):  # staying costs one comparison, no more
            durable.remove_if_there(self._marker)


def run_files(run: RunRecord, summary: bytes, assessments: Sequence[Assessment]) -> Mapping[str, bytes]:
    """The three files of a run, by name."""
    return {
        SUMMARY_FILE: summary,
        ASSESSMENTS_FILE: encode_assessments(run, assessments),
        REPORT_FILE: render_report(run, assessments).encode(),
    }
