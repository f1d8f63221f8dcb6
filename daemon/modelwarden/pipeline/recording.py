"""What the state remembers of a batch: ledger, catalog and outbox in one transaction.

The rule: what must be recorded is kept until a transaction has taken it; a state file that refuses for a while delays
an announcement and loses none.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from modelwarden.archive.publishing import Changes
from modelwarden.errors import RetryLater
from modelwarden.gate.assessment import CHANGED, Assessment
from modelwarden.gate.decision import REVIEWED, SAID, Decision
from modelwarden.gate.run import RunRecord
from modelwarden.gate.timestamp import run_key
from modelwarden.log import log
from modelwarden.state.cataloguing import WritableCatalog
from modelwarden.state.database import Database
from modelwarden.state.decided import Decided
from modelwarden.state.expectations import Expectations
from modelwarden.state.ledger import Dealt, Ledger
from modelwarden.state.messages import Event, Judged, Kind, Noticed, Route
from modelwarden.state.outbox import Outbox
from modelwarden.state.reading import Unreadable
from modelwarden.state.rows import ModelRow, model_rows

RunWithRows = tuple[RunRecord, Sequence[ModelRow]]
"""A run and its models' rows."""


class Recorder:
    """The tables of one state file, written together.

    Args:
        database: the open state file.
        read: from a run's name to what the archive has of it.
        routes: the destinations. None if the caller has no say in what is announced (a command that asks, the
            Python API): own runs it comes upon are left to the daemon.
        clock: seconds since the epoch.
        deadline_seconds: how long a message may be tried.
        progress: called for each run that is recorded.
        ring: called once messages are owed, on disk: whoever delivers is to look.
        pruned: from a sha256 to the name of the run of these bytes, if it was removed on purpose.

    Attributes:
        ledger: which files were dealt with.
        catalog: the runs and their assessments.
        outbox: what is owed.
        expectations: the folders that may not fall silent.
        decided: what people decided about models.
    """

    def __init__(
        self,
        database: Database,
        read: Callable[[str], tuple[RunRecord, Sequence[Assessment]]],
        routes: Sequence[Route] | None,
        clock: Callable[[], float],
        deadline_seconds: float,
        progress: Callable[[], object] = lambda: None,
        ring: Callable[[], object] = lambda: None,
        pruned: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.ledger = Ledger(database)
        self.catalog = WritableCatalog(database)
        self.outbox = Outbox(database)
        self.expectations = Expectations(database)
        self.decided = Decided(database)
        self._database = database
        self._read = read
        self._routes = routes
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._progress = progress
        self.ring = ring
        self._appeared: dict[str, RunWithRows | None] = {}
        self._pruned = pruned
        self._vanished: dict[str, None] = {}
        self._look: str | None = None  # of the archive with all that is noted
        self._unreadable: set[str] = set()  # what is in the index, and can't be in the catalog
        self._refused: dict[str, None] = {}  # of what appeared, what the disk refused to read

    def note(self, changes: Changes, published: Iterable[RunWithRows] = ()) -> None:
        """What the next transaction must record: what appeared and vanished, and runs just published."""
        self._look = None if changes.look == self.catalog.look() else changes.look
        self._vanished |= dict.fromkeys(changes.vanished)
        for name in changes.vanished:
            self._appeared.pop(name, None)
            self._unreadable.discard(name)
        self._appeared |= dict.fromkeys(changes.appeared)
        self._appeared |= {run.timestamp: (run, models) for run, models in published}

    def record(self, dealt: Sequence[Dealt] = ()) -> int:
        """One transaction: all that was noted, and these files; return how many messages it owes.

        A run of this state's owner is owed its messages once, however it comes to be recorded: published just now,
        or found after a crash between the index and this transaction. What others archived, or what was there
        before this state file was made, carries another daemon_id and is never announced here.

        Raises:
            RetryLater: the state file refused; all of it is still noted.
        """
        owed = 0
        archived: list[RunRecord] = []
        refused: dict[str, None] = {}
        gone = [key for key, sha256 in self.catalog.removed() if not self.outbox.is_owed(_event_id(sha256), key)]
        has_news = self._routes is not None and self.catalog.unannounced()
        if dealt or self._appeared or self._vanished or self._look or gone or has_news:
            with self._database.transaction():
                missing = [name for name in self._vanished if not self._remove(name)]
                self.ledger.forget_runs(set(missing))
                for name, judged in self._appeared.items():
                    self._progress()
                    try:
                        archived += self._catalog(name, judged)
                    except RetryLater as error:  # one bad folder must not hold up all others
                        if name not in self._refused:
                            log.warning("run_unreadable", run=name, reason=str(error))
                        refused[name] = None
                owed = self._announce()
                self.ledger.record(dealt)
                for key in gone:
                    self.catalog.let_go(key)
                if self._look is not None:
                    self._database.note_look(None if refused or self._unreadable else self._look)
            self.ledger.remember(dealt)
            self._appeared = dict.fromkeys(refused)
            self._vanished.clear()
            self._refused = refused
            self._look = None
        for run in archived:
            _log_archived(run)
        if owed:
            self.ring()
        return owed

    def learn_again(self, runs: Sequence[RunWithRows]) -> None:
        """One transaction: what the folders of these runs say, whatever the catalog has of them; owes nothing.

        Raises:
            RetryLater: the state file refused.
        """
        with self._database.transaction():
            others = [run.timestamp for run, _ in runs if self.catalog.sha256(run.timestamp) not in {None, run.sha256}]
            self.ledger.forget_runs({name for name in others if not self._remove(name)})
            for run, models in runs:
                self._progress()
                if not self.catalog.says(run, models):
                    self._catalog(run.timestamp, (run, models))

    def record_decisions(
        self,
        looks: Mapping[str, str],
        files: Sequence[tuple[str, Decision]],
        routes: Sequence[Route] | None = None,
    ) -> int:
        """One transaction: make the table of decisions what the archive's files say; return how many messages it owes.

        What this state's owner decided is announced once, however it comes to be recorded, by whoever has routes.

        Args:
            looks: of the folders that changed, as `Decided.keep` takes it.
            files: the decisions in them, by the sha256 of their bytes.
            routes: the destinations, if the caller has a say in what is announced only here.

        Raises:
            RetryLater: the state file refused.
        """
        routes = routes if routes is not None else self._routes
        owed = 0
        if not looks and not (routes is not None and self.decided.unannounced()):
            return owed
        with self._database.transaction():
            self.decided.keep(looks, files, self._database.daemon_id)
            if routes is not None:
                now = self._clock()
                events = [_decision_event(digest, each) for digest, each in self.decided.unannounced()]
                owed = self.outbox.owe(events, routes, now, now + self._deadline_seconds)
                self.decided.mark_announced()
        if owed:
            self.ring()
        return owed

    def catch_up(self) -> None:
        """Record what is still noted, if anything is: what the disk or the state file refused before.

        Raises:
            RetryLater: the state file refused again.
        """
        if self._appeared or self._vanished:
            self.record()

    def reject(
        self, identity: str, at: str, path: str, reason: str, text: str, dealt: Sequence[Dealt], *, ours: bool = True
    ) -> bool:
        """One transaction for a rejected file; False if the same bytes were rejected before.

        Where another daemon of the same archive kept it first (not `ours`), that one announces it.

        Raises:
            RetryLater: the state file refused.
        """
        with self._database.transaction():
            new = self.ledger.reject(identity, at, path, reason)
            if new and ours:
                self._owe([Event(f"rejected:{identity}", Kind.REJECTED, (Kind.REJECTED,), Noticed(text))])
            self.ledger.record(dealt)
        self.ledger.remember(dealt)
        if new:
            self.ring()
        return new

    def announce(self, event: Event) -> int:
        """Owe a problem's message, in a transaction of its own; return how many messages that is.

        Raises:
            RetryLater: the state file refused.
        """
        with self._database.transaction():
            owed = self.owe(event)
        if owed:
            self.ring()
        return owed

    def owe(self, event: Event) -> int:
        """The same inside the caller's transaction; who commits it rings."""
        return self._owe([event])

    def is_cut_off(self) -> bool:
        """Whether another state file has the name of this one by now."""
        return self._database.is_cut_off()

    def last_archived(self) -> float | None:
        """When a run was archived last, seconds since the epoch; None if none was, or the file can't be asked."""
        with suppress(Unreadable, ValueError):
            name = self.catalog.latest(self._clock())
            run = None if name is None else self.catalog.run(name)
            return None if run is None else datetime.fromisoformat(run.archived_at).timestamp()
        return None

    def forget(self, paths: Sequence[str]) -> None:
        """Let the ledger drop files that are gone."""
        with self._database.transaction():
            self.ledger.forget(paths)

    def keep_pruned(self, recorded: Mapping[str, str]) -> None:
        """Take over what the archive's record says was removed on purpose, and is not there.

        Args:
            recorded: the runs' names by the sha256 of their bytes.

        Raises:
            RetryLater: the state file refused.
        """
        new = recorded.items() - self.catalog.pruned().items()
        if new:
            with self._database.transaction():
                self.catalog.mark_pruned(new)

    def forget_pruned(self, sha256s: Collection[str]) -> int:
        """Let go of pruned runs that nothing records any more; return how many. Raises RetryLater if refused."""
        if sha256s:
            with self._database.transaction():
                self.catalog.forget_pruned(sha256s)
        return len(sha256s)

    def forget_missing(self) -> int:
        """Let go of the runs and decisions that the archive no longer has; return how many. Raises RetryLater."""
        with self._database.transaction():
            return self.catalog.forget_missing() + self.decided.forget_lost()

    def _catalog(self, name: str, live: RunWithRows | None) -> Sequence[RunRecord]:
        """Put a run into the catalog; return it if it is new and was archived in this state's name.

        Raises:
            RetryLater: the disk refused to read it.
        """
        try:
            run, models = live if live is not None else self._rows_of(name)
        except (ValueError, LookupError) as error:
            log.warning("run_unreadable", run=name, reason=str(error))
            self._unreadable.add(name)
            return ()
        self._unreadable.discard(name)
        announced = run.daemon_id != self._database.daemon_id or self.catalog.is_announced(name, run.sha256)
        self.catalog.add(run, models, announced=announced)
        self.outbox.revive(_event_id(run.sha256), run_key(run.timestamp), self._clock())
        return () if announced and live is None else (run,)

    def _remove(self, name: str) -> bool:
        """Take a run out; its rows stay as long as a message about it is owed.

        Returns:
            Whether it was removed on purpose: it is not missed, and the files that it came from stay dealt with.
        """
        run = self.catalog.run(name)
        if run is None:  # another process with this state took it out
            return name in self.catalog.pruned().values()
        event = _event_id(run.sha256)
        kept = self.catalog.remove(name, keeps=self.outbox.is_owed(event))
        if kept is not None:
            self.outbox.is_about(event, kept)
        if self._pruned(run.sha256) is None:
            return False
        self.catalog.mark_pruned([(run.sha256, name)])
        return True

    def _rows_of(self, name: str) -> RunWithRows:
        run, assessments = self._read(name)
        return run, model_rows(assessments)

    def _announce(self) -> int:
        if self._routes is None:
            return 0
        runs = self.catalog.unannounced()
        owed = self._owe(map(self._run_event, runs))
        owed += self._owe(_ahead_event(run) for run in runs if run.is_ahead)
        self.catalog.mark_announced()
        return owed

    def _run_event(self, run: RunRecord) -> Event:
        """What the run has to say; its models, and what changed, are looked for if a route asks for it."""
        routes = self._routes or ()
        topics: list[str] = [classification for classification, count in run.counts.items() if count]
        models: list[tuple[str, str]] = []
        if any("*" not in route.symbols for route in routes):
            models += self.catalog.classes(run.timestamp)
        if any(CHANGED in route.on for route in routes):
            changed = [(change.symbol, CHANGED) for change in self.catalog.changes([run_key(run.timestamp)])]
            topics += [CHANGED] if changed else []
            models += changed if models else []
        return Event(_event_id(run.sha256), Kind.RUN, topics, Judged(run_key(run.timestamp)), models)

    def _owe(self, events: Iterable[Event]) -> int:
        now = self._clock()
        return self.outbox.owe(events, self._routes or (), now, now + self._deadline_seconds)


def _log_archived(run: RunRecord) -> None:
    log.info(
        "run_archived",
        run=run.timestamp,
        approved=run.approved_count,
        review=run.review_count,
        dropped=run.dropped_count,
        source=run.source.path,
    )
    if run.is_ahead:
        log.warning("run_dated_ahead", run=run.timestamp, archived_at=run.archived_at, hint="is a clock wrong?")


def _ahead_event(run: RunRecord) -> Event:
    """Of a run that is dated ahead: once, for its name and its host."""
    text = (
        f"run {run.timestamp} is dated more than a day ahead\n"
        f"it was archived at {run.archived_at}: is the trainer's clock wrong, or this host's?\n"
        f"host: {run.archived_by}"
    )
    identity = f"problem:ahead:{run.timestamp}:{run.archived_by}"
    return Event(identity, Kind.PROBLEM, (Kind.PROBLEM,), Noticed(text))


def _decision_event(digest: str, decision: Decision) -> Event:
    override = ", although it is in DROP" if decision.override else ""
    lines = [
        f"{decision.symbol} {SAID[decision.verb]}{override}: run {decision.run}",
        f"by {decision.by}: {decision.reason}",
        f"it was judged {decision.classification}, by policy {decision.policy}",
        f"host: {decision.host}",
        f"decision {decision.number}, sha256 {digest[:16]}",  # a copy of it that nobody can alter in the archive
    ]
    models = [(decision.symbol, REVIEWED)]
    return Event(f"reviewed:{digest[:16]}", Kind.REVIEWED, (REVIEWED,), Noticed("\n".join(lines)), models)


def _event_id(sha256: str) -> str:
    return f"run:{sha256[:16]}"
