"""The archive as a whole: a batch of staged runs becomes part of it under one lock, or nothing happens to it.

The rule: the order is stage, lock, rename, sync (the commit point), index, unlock. Before the first rename a marker
is left beside the index, and removed after the index is written: whoever takes the lock next sees that somebody died
between, and brings the index up to the archive.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Final, NamedTuple

import jiter

from modelwarden import durable
from modelwarden.archive.encoding import encode_entry
from modelwarden.archive.folders import look_of, oldest_first
from modelwarden.archive.identity import DAMAGED, IDENTITY_FILE, identity_file, identity_in
from modelwarden.archive.index import Index, IndexLock
from modelwarden.archive.outcomes import AlreadyArchived, Archived, Postponed, Pruned
from modelwarden.archive.pruned import PrunedRun, PrunedRuns, add_pruned
from modelwarden.archive.record import decode_assessments
from modelwarden.archive.tree import Tree
from modelwarden.errors import RetryLater, UnknownRun
from modelwarden.filesystems import path_into, show_path
from modelwarden.fingerprint import Fingerprint
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.run import RunRecord
from modelwarden.log import log

MARKER_FILE: Final = ".index.dirty"
"""Present while an index may lack runs that are already in the archive. Its existence is the message: it needs no
sync of its own, for after a power cut every process that shares the disk starts, and starting reconciles."""

LOCK_TIMEOUT: Final = 10.0
"""Seconds to wait for the lock before the batch is put back; the caller tries again."""


class Staged(NamedTuple):
    """A run that is complete on disk under a name of no meaning.

    Attributes:
        folder: its folder.
        run: what it records.
        on_purpose: somebody named it: it is published also if it was pruned.
    """

    folder: str
    run: RunRecord
    on_purpose: bool = False


class NameTaken(NamedTuple):
    """Something else has the run's name: render it again with the next one."""

    run: RunRecord


Committed = Archived | AlreadyArchived | Pruned | Postponed | NameTaken
"""What becomes of a staged run."""


class Line(NamedTuple):
    """A run's line of index.json, made from its folder before the lock was taken.

    Attributes:
        fingerprint: of its model_assessments.json, before it was read.
        sha256: of the run's bytes.
        line: the line.
    """

    fingerprint: Fingerprint
    sha256: str
    line: bytes


class Changes(NamedTuple):
    """What others did to the archive since this process last held the lock.

    Attributes:
        appeared: runs to add to the catalog.
        vanished: runs to take out of it, before what appeared is added: a name in both is another run by now.
        repaired: whether index.json had to be written anew.
        look: how the archive looks with all of this; see `folders.look_of`.
    """

    appeared: Sequence[str] = ()
    vanished: Sequence[str] = ()
    repaired: bool = False
    look: str | None = None


class Taken(NamedTuple):
    """A run that was taken out of the archive, and where its folder is now."""

    name: str
    folder: str


class Archive:
    """Runs on disk and their index.

    Args:
        root: the archive directory.
        owner: whose half-made runs are swept at start (see Tree).
        make: whether to make the archive directory if it is missing; not if a disk may only be away.
        progress: called for each run that is read from its folder: a long look is seen to go on.

    Attributes:
        tree: its folders.
        pruned: the record of what was removed on purpose.
    """

    def __init__(
        self, root: str, owner: str, *, make: bool = True, progress: Callable[[], object] = lambda: None
    ) -> None:
        self._progress = progress
        self.tree = Tree(root, owner, make=make)
        self.pruned = PrunedRuns(self.tree.root)
        self._index = self._new_index()
        self._lock = IndexLock(self.tree.root)
        self._is_new_place = not make
        self._folder = -1  # while the lock is held: the archive's, open
        self._untold = Changes()
        self._gone: dict[str, str] = {}  # what vanished and was not told of yet: its name and its bytes' sha256
        self._unsure = False
        self._marker = os.path.join(self.tree.root, MARKER_FILE)

    @property
    def root(self) -> str:
        """The archive directory, absolute."""
        return self.tree.root

    def __len__(self) -> int:
        return len(self._index)

    @property
    def index_bytes_written(self) -> int:
        """How much of index.json the last commit had to write."""
        return self._index.bytes_written

    def names(self) -> list[str]:
        """All runs as of the last look, oldest first."""
        return self._index.names()

    def digests(self) -> dict[str, str]:
        """The sha256 of every run's bytes as of the last look, by the run's name."""
        return self._index.digests()

    def find(self, sha256: str) -> str | None:
        """The run of these bytes as of the last look, or None.

        A run that was deleted by hand is none; and after a commit or a look that failed nothing counts until a look
        at the whole archive has succeeded.
        """
        name = None if self._unsure else self._index.find(sha256)
        return name if name is not None and os.path.isdir(self.tree.path_of(name)) else None

    def identity(self) -> str | None:
        """The id in the folder; None if it has none, DAMAGED if its file does not say.

        Raises:
            NotTheArchive: there is no such folder, or not the archive that was trusted.
            RetryLater: the disk refused to say.
        """
        with self.tree.entered() as folder:
            return identity_in(folder, self.root)

    def make_identity(self, identity: str) -> str:
        """Give the archive an id, on disk before this returns; return the one that it has, for another may be faster.

        Raises:
            RetryLater: the lock could not be had, or the disk refused.
        """
        self.tree.enter_staging()
        with self._held():
            found = identity_in(self._folder, self.root)
            if found is None or found == DAMAGED:
                draft = self.tree.private(IDENTITY_FILE)
                durable.remove_if_there(draft)
                durable.write_new_file(draft, identity_file(identity))
                durable.rename_over(draft, os.path.join(self.root, IDENTITY_FILE))
                self.tree.sync()
                found = identity
            return found

    def trust(self, identity: str) -> None:
        """From now on the folder holds the archive of this id, or is left alone."""
        self.tree.identity = identity
        if self._is_new_place:
            self._index = self._new_index()
            self._is_new_place = False

    def distrust(self) -> None:
        """The archive is away: keep nothing of it open, and believe nothing of what was known."""
        self._index.forget()
        self.pruned.forget()
        self._lock.close()
        self.tree.let_go()
        self.tree.identity = None
        self._is_new_place = True
        self._unsure = True

    def close(self) -> None:
        """Give up the staging folder, the index's spare and the lock's file."""
        self._index.close()
        self._lock.close()
        self.tree.close()

    def durable_names(self) -> list[str]:
        """The names of all folders that may be runs, oldest first, on disk under these names. Raises as `reconcile`."""
        with self._held():
            names = sorted(self.tree.run_names(), key=oldest_first)
            self.tree.sync()  # who publishes may have renamed and not synced when it died
        return names

    def reconcile(self, *, rebuild: bool = False, lines: Mapping[str, Line] = MappingProxyType({})) -> Changes:
        """Make the index equal to the archive and return what that changed.

        Args:
            rebuild: do not believe the index even if it reads well; make every line again.
            lines: by name, those of runs that were read already: a run that is still as it was is not read again.

        Raises:
            RetryLater: the lock could not be had, or the disk refused.
        """
        with self._held():
            self._learn(lambda: self._compare_with_archive(rebuild=rebuild, lines=lines))
            look = look_of(self.root)
        return self._tell(look)

    def commit(self, batch: Sequence[Staged]) -> tuple[list[Committed], Changes]:
        """Publish a batch: one outcome a staged run, in order, and what others did meanwhile.

        What is not published is discarded, so that the caller begins again from the source.

        Once this returns, every `Archived` run survives a power cut and is in index.json.

        Raises:
            RetryLater: the lock, a sync or the index failed. Runs that were renamed stay, the marker with them:
                trying again finds them by their bytes. Nothing was acknowledged, and the next call that succeeds
                tells of them as of runs that appeared.
        """
        try:
            with self._held():
                self._catch_up()
                outcomes = self._publish(batch)
                look = look_of(self.root)
        except BaseException:
            self._discard(batch)  # what has its name already is not there any more
            raise
        self._discard([each for each, it in zip(batch, outcomes, strict=True) if not isinstance(it, Archived)])
        return outcomes, self._tell(look)

    def _discard(self, batch: Sequence[Staged]) -> None:
        for staged in batch:
            self.tree.discard(staged.folder)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the archive's lock, and its folder, while entered."""
        with self.tree.entered() as self._folder, self._lock.held(LOCK_TIMEOUT, self._folder):
            yield

    def unpublish(
        self, names: Sequence[str], at: str, host: str, spares: Callable[[str], bool] = lambda _: False
    ) -> tuple[list[Taken], Changes]:
        """Take runs out of the archive, each whole and at once; return which, and where they are, to be discarded.

        Once this returns they are gone for good, index.json does not list them, and the record of what was pruned does.

        Args:
            names: the runs'.
            at: when, ISO 8601 in UTC.
            host: where this is done.
            spares: from a run's name to whether it is to stay after all; asked while nobody can decide about a run.

        Raises:
            RetryLater: as `commit`. Each run is there whole, or is gone; the next look at the archive tells which.
        """
        self.tree.enter_staging()
        with self._held():
            self._catch_up()
            there = [name for name in names if name in self._index and not spares(name)]
            if there:
                gone = [_pruned_run(name, self._index.line(name)) for name in there]
                add_pruned(self.tree, path_into(self._folder, self.root), gone, at, host)
            durable.leave_marker(self._marker, self._folder)  # until the folders have followed the index
            for name in there:
                self._index.discard(name)
            self._note(vanished=there)
            self._unsure = True
            self._index.write()
            taken = [Taken(name, self.tree.private(os.urandom(8).hex())) for name in there]
            for name, folder in taken:
                durable.rename_over(self.tree.path_of(name), folder)
            self.tree.sync()
            self._unsure = False
            self._remove_marker()
            look = look_of(self.root)
        return taken, self._tell(look)

    def record_pruned(self, runs: Sequence[PrunedRun], at: str, host: str) -> None:
        """Record again what was removed on purpose. Raises as `commit`."""
        self.tree.enter_staging()
        with self._held():
            add_pruned(self.tree, path_into(self._folder, self.root), runs, at, host)

    @contextmanager
    def locked(self) -> Iterator[str]:
        """Hold the archive's lock while entered; its folder, as a path that stays it. Raises as `commit`."""
        with self._held():
            yield path_into(self._folder, self.root)

    def _new_index(self) -> Index:
        return Index(self.tree.root, self.tree.private("index.json"))

    def _publish(self, batch: Sequence[Staged]) -> list[Committed]:
        """Under the lock: rename each, sync, index."""
        # Once more, now that nobody can prune: another may have published the same bytes meanwhile, and a person
        # pruned them.
        pruned = {} if all(staged.on_purpose for staged in batch) else self.pruned.all()
        self.tree.enter_staging()
        durable.leave_marker(self._marker, self._folder)
        outcomes: list[Committed] = []
        for staged in batch:
            outcome = self._rename(staged, pruned)
            outcomes.append(outcome)
            if isinstance(outcome, Archived):
                # In memory at once, so that a twin later in the batch is seen.
                self._index.add(outcome.run.timestamp, outcome.run.sha256, encode_entry(outcome.run))
        published = [outcome.run.timestamp for outcome in outcomes if isinstance(outcome, Archived)]
        if published:
            try:
                self.tree.sync()
                self._insist_on_files(
                    [each for each, it in zip(batch, outcomes, strict=True) if isinstance(it, Archived)]
                )
                self._index.write()
            except BaseException:
                self._note(appeared=published)  # they are there, and nobody was told so
                self._unsure = True
                self._index.load()
                raise
        self._remove_marker()
        return outcomes

    def _insist_on_files(self, published: Sequence[Staged]) -> None:
        """Take back what somebody removed files from while it was staged, before its source is let go.

        Raises:
            RetryLater: there was such a run.
        """
        broken = [staged for staged in published if not self.tree.is_complete(staged.run.timestamp)]
        if not broken:
            return
        self.tree.enter_staging()  # which somebody may have removed
        for staged in broken:
            durable.rename_over(self.tree.path_of(staged.run.timestamp), staged.folder)
        raise RetryLater(
            "one of its files was removed while it was staged",
            where=show_path(broken[0].folder),
            hint="leave .staging alone while a daemon runs",
        )

    def _rename(self, staged: Staged, pruned: Mapping[str, str]) -> Committed:
        if (name := self.find(staged.run.sha256)) is not None:
            return AlreadyArchived(name)
        if not staged.on_purpose and (name := pruned.get(staged.run.sha256)) is not None:
            return Pruned(name)
        self._forget_gone(staged.run)
        try:
            self.tree.publish(staged.folder, staged.run.timestamp)
        except (FileExistsError, RetryLater) as error:
            if self._arrived(staged):
                return Archived(staged.run)
            return Postponed(error) if isinstance(error, RetryLater) else NameTaken(staged.run)
        return Archived(staged.run)

    def _arrived(self, staged: Staged) -> bool:
        """Whether the rename that was reported to have failed was done: a network's answer may be lost."""
        if os.path.lexists(staged.folder):
            return False
        try:
            there, _ = self.read(staged.run.timestamp)
        except (UnknownRun, RetryLater, ValueError):
            return False
        return (there.sha256, there.archived_at) == (staged.run.sha256, staged.run.archived_at)

    def _forget_gone(self, run: RunRecord) -> None:
        """Take out of the index what was deleted by hand and would hide the run: its bytes' or its name's old owner."""
        for name in (self._index.find(run.sha256), run.timestamp):
            if name is not None and name in self._index and not os.path.lexists(self.tree.path_of(name)):
                self._index.discard(name)
                self._note(vanished=[name])

    def _catch_up(self) -> None:
        """Under the lock: learn what others published, and finish what somebody left half done.

        Who failed in a commit looks for itself, also if another has finished it meanwhile and took the marker away:
        until then it does not know what is archived.
        """
        if self._unsure:
            self._learn(lambda: self._compare_with_archive(rebuild=False))
        elif os.path.lexists(self._marker):
            log.warning("commit_finished_for_another", archive=self.root)
            self._learn(lambda: self._compare_with_archive(rebuild=False))
        elif self._index.is_current():
            return
        elif self._index.was_written_under_the_lock():
            self._learn(lambda: not self._index.load() and self._compare_with_archive(rebuild=True))
        else:  # a backup put back reads well too; what is in memory may be behind it: a name may be another run by now
            log.warning("index_changed_by_another_hand", archive=self.root)
            self._learn(lambda: self._compare_with_archive(rebuild=True))

    def _learn(self, look: Callable[[], bool]) -> None:
        """Note what a look at the archive adds to and takes from what was known; it tells whether it repaired.

        A run is its bytes: a name that has others now is a run that vanished and one that appeared.
        """
        before = self._index.digests()
        repaired = False
        try:
            repaired = look()
        finally:
            after = self._index.digests()
            vanished = sorted(name for name, sha256 in before.items() if after.get(name) != sha256)
            appeared = [name for name in self._index.names() if before.get(name) != after[name]]
            self._note(appeared, vanished, repaired=repaired)
            for name in vanished:
                self._gone.setdefault(name, before[name])

    def _note(self, appeared: Sequence[str] = (), vanished: Sequence[str] = (), *, repaired: bool = False) -> None:
        """What the next call that succeeds tells of, too."""
        told = self._untold
        self._untold = Changes(
            [*told.appeared, *appeared], [*told.vanished, *vanished], repaired=told.repaired or repaired
        )

    def _tell(self, look: str | None) -> Changes:
        """What was noted since the last call that succeeded; kept until then, so that a failure loses none of it."""
        changes, self._untold = self._untold, Changes()
        gone, self._gone = self._gone, {}
        here = {name for name in changes.appeared if name in self._index}
        now = self._index.digests() if here.intersection(gone) else {}
        return Changes(
            appeared=[name for name in dict.fromkeys(changes.appeared) if name in here],
            vanished=[
                name
                for name in dict.fromkeys(changes.vanished)
                if name not in here or now.get(name) != gone.get(name, now.get(name))
            ],
            repaired=changes.repaired,
            look=look,
        )

    def _compare_with_archive(self, *, rebuild: bool, lines: Mapping[str, Line] = MappingProxyType({})) -> bool:
        """Under the lock: the folders are the truth; True if index.json was written anew.

        Args:
            rebuild: read every run's folder, whatever the index says.
            lines: see `reconcile`.
        """
        self._unsure = True  # until the end: what is read and not yet written and synced is no archived run
        changed = not self._index.load() or rebuild
        there = set(self.tree.run_names())
        for name in self._index.names():
            if not rebuild and name not in there:
                self._index.discard(name)
                changed = True
        if rebuild:
            self._index.empty()
        for name in sorted(there, key=oldest_first):  # each goes to the end, not to its place
            if name not in self._index and self._read_into_index(name, lines.get(name)):
                changed = True
        if changed:
            self.tree.enter_staging()
            self._index.write()
        self.tree.sync()  # whoever left the marker may have died, or failed, before its own
        self._unsure = False
        self._remove_marker()
        return changed

    def _read_into_index(self, name: str, line: Line | None) -> bool:
        """Index a folder that is a run; False for one that only looks like it."""
        if line is not None and self.tree.fingerprint(name) == line.fingerprint:
            self._index.add(name, line.sha256, line.line)
            return True
        self._progress()
        reason = ""
        if not self.tree.is_complete(name):
            reason = "its three files are not there"
        else:
            try:
                run, _ = self.read(name)
            except (ValueError, UnknownRun) as error:
                reason = str(error)
            else:
                if run.timestamp == name:
                    self._index.add(name, run.sha256, encode_entry(run))
                    return True
                reason = f"it says it is {run.timestamp}"
        log.warning("foreign_folder_left_alone", archive=self.root, folder=name, reason=reason)
        return False

    def read(self, name: str) -> tuple[RunRecord, list[Assessment]]:
        """A run and its assessments.

        Raises:
            UnknownRun: the archive has no such run.
            ValueError: its model_assessments.json is damaged.
        """
        return decode_assessments(self.tree.read(name))

    def _remove_marker(self) -> None:
        with suppress(RetryLater):  # staying costs one comparison, no more
            durable.remove_if_there(self._marker, self._folder)


def _pruned_run(name: str, line: bytes) -> PrunedRun:
    """What the record of pruned runs says of one, by its line in the index."""
    entry = jiter.from_json(line)
    return PrunedRun(name, entry["sha256"], entry["source"])
