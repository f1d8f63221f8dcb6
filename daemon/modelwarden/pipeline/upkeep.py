"""Archive, index and state brought into line: at a start, when the index is made again, when runs are pruned.

The rule: the folders are the truth, the index follows them, and the state follows both, in this order. What a crash
leaves half done the next start leads on, and nothing is done twice.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from types import MappingProxyType
from typing import Final

from modelwarden.archive.decisions import Head, Known, read_news
from modelwarden.archive.pruned import PrunedRun
from modelwarden.archive.publishing import Archive, Changes, Line
from modelwarden.archive.reviewing import mend_head
from modelwarden.cores import Shown, unseen
from modelwarden.errors import RetryLater
from modelwarden.filesystems import doubt_of_locks
from modelwarden.gate.run import iso_of
from modelwarden.log import log
from modelwarden.pipeline.recognition import adopt, recognise
from modelwarden.pipeline.recording import Recorder
from modelwarden.pipeline.rereading import read_again
from modelwarden.state.database import Database
from modelwarden.state.messages import Route

REREAD_TOGETHER: Final = 1024
"""Runs whose rows are made again in one transaction: the daemon waits for no more than that."""


class Upkeep:
    """The upkeep of one archive and one state file.

    Args:
        archive: the runs.
        recorder: what the state remembers of them.
        database: the open state file.
        host: where this is done, for the record of what was pruned.
        clock: seconds since the epoch.
        may_make: whether a first start may make the archive.
    """

    def __init__(
        self,
        archive: Archive,
        recorder: Recorder,
        database: Database,
        host: str,
        clock: Callable[[], float],
        *,
        may_make: bool,
    ) -> None:
        self._archive = archive
        self._recorder = recorder
        self._database = database
        self._host = host
        self._clock = clock
        self._may_make = may_make

    def recover(self) -> None:
        """Start-up: see that it is the archive, sweep half-made runs, then archive -> index -> state.

        Raises:
            NotTheArchive: the folder does not hold the archive that the state knows; nothing was changed.
            RetryLater: the lock could not be had, or the disk or the state file refused.
        """
        self.recognise()
        swept = self._archive.tree.sweep()
        changes, owed = self._reconcile(rebuild=False)
        log.info(
            "reconciled",
            runs=len(self._archive),
            index_repaired=changes.repaired,
            swept=swept,
            added_to_catalog=len(changes.appeared),
            removed_from_catalog=len(changes.vanished),
            messages_owed=owed,
        )

    def rebuild(self, *, forgets: bool = False, shown: Shown = unseen) -> int:
        """Make the index and the catalog again from the archive's folders, whatever they say now.

        What the state alone still knows of what was pruned is recorded in the archive again.

        Args:
            forgets: whether to let go, instead, of what is not there any more: runs, decisions, and what was pruned.
            shown: shows how far it is.

        Returns:
            How many were let go of.

        Raises:
            NotTheArchive: the folder does not hold the archive that the state knows; nothing was changed.
            RetryLater: the lock could not be had, or the disk or the state file refused.
        """
        self.recognise()
        recorded = self._archive.pruned.all()
        unrecorded = {each: name for each, name in self._recorder.catalog.pruned().items() if each not in recorded}
        if unrecorded and not forgets:
            pruned = [PrunedRun(name, sha256, "") for sha256, name in unrecorded.items()]
            self._archive.record_pruned(pruned, iso_of(self._clock()), self._host)
        lines: dict[str, Line] = {}
        names = self._archive.durable_names()
        with closing(shown(read_again(self._archive.tree, names), len(names), "reading")) as runs:
            while some := list(islice(runs, REREAD_TOGETHER)):
                self._recorder.learn_again([(each.run, each.models) for each in some])
                lines |= {each.run.timestamp: each.line for each in some}
        self._reconcile(rebuild=True, lines=lines)
        forgotten = 0
        if forgets:
            forgotten = self._recorder.forget_missing() + self._recorder.forget_pruned(unrecorded)
            mend_head(self._archive, Known(), forgets=True)
        # A lock that could be had says that a process is dead only if it tells of all hosts.
        self._archive.tree.sweep(everybody=doubt_of_locks(self._archive.root) is None)
        return forgotten

    def prune(self, names: Sequence[str], spares: Callable[[str], bool]) -> Iterator[str]:
        """Remove runs, each whole, and name those that were removed, each when nothing is left of it.

        A message about one that is still owed can be sent all the same, and the files that they came from stay dealt
        with. If the state file refuses, the runs are gone all the same, and the next start leads it on.

        Nothing is done before the first name is asked for.

        Args:
            names: the runs'.
            spares: see `Archive.unpublish`.

        Raises:
            NotTheArchive: the folder does not hold the archive that the state knows; nothing was changed.
            RetryLater: the lock could not be had, or the disk refused: each run is there whole, or is gone.
        """
        taken, changes = self._archive.unpublish(names, iso_of(self._clock()), self._host, spares)
        self._recorder.note(changes)
        try:
            self._recorder.record()
        except RetryLater as error:
            log.warning("pruned_unrecorded", reason=str(error), hint="the next start of the daemon records it")
        for each in taken:
            self._archive.tree.discard(each.folder)
            yield each.name

    def recognise(self, *, mends: bool = True) -> None:
        """See to it that the folder holds the archive that the state knows (see pipeline.recognition)."""
        recognise(self._archive, self._recorder.catalog, self._database, may_make=self._may_make, mends=mends)

    def adopt(self) -> str:
        """Make what is in the folder the archive that the state knows; return its id."""
        return adopt(self._archive, self._recorder.catalog, self._database)

    def known_decisions(self) -> Known:
        """What the state knows of the decisions."""
        return Known(self._recorder.decided.looks(), Head(*self._recorder.decided.end()))

    def follow_decisions(self, routes: Sequence[Route] | None = None, *, reads_all: bool = False) -> int:
        """`reviews/` -> state: what is new there; return how many messages it owes.

        Args:
            routes: see `Recorder.record_decisions`.
            reads_all: do not believe that a folder that looks as it did holds what it did.

        Raises:
            RetryLater: the lock could not be had, or the disk or the state file refused.
        """
        known = self.known_decisions()
        looks = dict.fromkeys(known.looks, "") if reads_all else known.looks
        news = read_news(self._archive.root, looks, self._clock())
        mend_head(self._archive, known, news.kept)  # before the state takes over what may have been altered
        owed = self._recorder.record_decisions(news.looks, news.files, routes)
        if lost := self._recorder.decided.lost():
            log.warning("decisions_lost", first=lost[0], count=len(lost), hint="see `modelwarden verify`")
        return owed

    def _reconcile(self, *, rebuild: bool, lines: Mapping[str, Line] = MappingProxyType({})) -> tuple[Changes, int]:
        """Archive -> index -> state; what that changed, and how many messages it owes.

        Args:
            rebuild: see `Archive.reconcile`.
            lines: of the runs that were read again and are in the catalog as they were read.
        """
        known = dict(self._recorder.catalog.digests())  # before the archive's: who publishes meanwhile did not vanish
        found = self._archive.reconcile(rebuild=rebuild, lines=lines)
        there = self._archive.digests()
        changes = Changes(
            appeared=[
                name
                for name in self._archive.names()
                if (rebuild and name not in lines) or known.get(name) != there[name]
            ],
            vanished=sorted(name for name, sha256 in known.items() if there.get(name) != sha256),
            repaired=found.repaired,
            look=found.look,
        )
        self._recorder.note(changes)
        owed = self._recorder.record()
        self._recorder.keep_pruned(self._gone_on_purpose(set(there.values())))
        return changes, owed + self.follow_decisions(reads_all=rebuild)

    def _gone_on_purpose(self, there: Collection[str]) -> Mapping[str, str]:
        """The names of the runs that were pruned and did not come back, by the sha256 of their bytes."""
        return {sha256: name for sha256, name in self._archive.pruned.all().items() if sha256 not in there}
