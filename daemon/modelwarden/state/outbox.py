"""The outbox: messages owed, one row per (event, destination, whom it stands in for), from `pending` to `delivered`.

The rule: a row is written in the transaction that records what it is about, and `sending` is committed before a send
begins. So a crash can repeat a message, marked as a possible repeat, and can't lose one. Only `pending` becomes
`sending`, and only `sending` becomes what came of the send. What is forgotten is never owed again.

| from | to | by |
|---|---|---|
| (nothing) | pending | `owe`, `hand_over` |
| pending | sending | `sending` |
| pending | dead | `give_up_without_run`: its run was away until its deadline |
| pending | suppressed | `withdraw`, `drop` |
| sending | pending | `recover` (a courier died), `failed` (in time) |
| sending | delivered | `delivered` |
| sending | dead | `failed`: past its deadline, or refused for good |
| dead | pending | `retry`, `revive` |
| dead | suppressed | `drop` |
| delivered, suppressed | (forgotten) | `forget` |
"""

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from modelwarden.gate.timestamp import run_key
from modelwarden.state.database import Database

NO_RUN: Final = "its run is not in the archive"
"""Why a message is dead whose run was away until its deadline; the run's return revives it."""

FORGOTTEN_AT_ONCE: Final = 500
"""Most rows that one transaction forgets: a few milliseconds."""


class Kind(StrEnum):
    """What a message is about."""

    RUN = "RUN"
    REJECTED = "REJECTED"
    PROBLEM = "PROBLEM"


class Status(StrEnum):
    """Where a message stands."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"
    SUPPRESSED = "suppressed"


OPEN: Final = (Status.DEAD, Status.SENDING, Status.PENDING)
"""Where a message stands that a person may want to see, what needs one first."""


class Route(NamedTuple):
    """A destination as far as the outbox needs it: its name, and what it asked for.

    Attributes:
        name: as configured; a message's identity together with its event.
        on: classifications and kinds, such as APPROVED, DROP, REJECTED.
        symbols: shell patterns of the models that it wants to hear of.
    """

    name: str
    on: frozenset[str]
    symbols: tuple[str, ...] = ("*",)

    def wants(self, event: "Event") -> bool:
        """Whether the event has something to say that was asked for."""
        if self.on.isdisjoint(event.topics):
            return False
        if not event.models or "*" in self.symbols:
            return True
        return any(topic in self.on and is_chosen(symbol, self.symbols) for symbol, topic in event.models)


def is_chosen(symbol: str, patterns: Iterable[str]) -> bool:
    """Whether one of the shell patterns fits the symbol; case counts."""
    return any(fnmatchcase(symbol, pattern) for pattern in patterns)


class Event(NamedTuple):
    """Something to announce.

    Attributes:
        id: the same for the same event, however often it is noticed.
        kind: what it is about.
        topics: what it has to say; a route that asked for none of them is not owed it.
        run: the run's name, for RUN.
        payload: the message's text, for the other kinds.
        models: symbol and class of each model of the run; () if no route chooses by symbol.


        models: symbol and class of each model of the run, and symbol and CHANGED of each that changed; () if no route
            chooses by symbol.
    """

    id: str
    kind: Kind
    topics: Collection[str]
    run: str | None
    payload: str | None
    models: Sequence[tuple[str, str]] = ()


class Owed(NamedTuple):
    """A message to deliver.

    Attributes:
        id: the row.
        event: the event's id.
        destination: the destination's configured name.
        kind: what it is about.
        run: the run's key (see gate.timestamp.run_key), or None.
        payload: the text, for kinds without a run.
        attempts: sends begun before.
        repeated: whether a send began whose end nobody saw.
        created_at: seconds since the epoch.
        deadline: seconds since the epoch; past it the message is dead.
        stands_for: the destination that it was owed to first, if this one stands in for it; else "".
    """

    id: int
    event: str
    destination: str
    kind: Kind
    run: int | None
    payload: str | None
    attempts: int
    repeated: bool
    created_at: float
    deadline: float
    stands_for: str


class Bundle(NamedTuple):
    """The messages that one send stands for: one or many, of one destination and kind, owed to the same one first.

    Attributes:
        first: the oldest of them.
        ids: the rows, oldest first.
        runs: the runs' keys, likewise; () for kinds without.
        repeated: whether a send of any of them began whose end nobody saw.
        attempts: sends begun before, of the one that was tried most often.
    """

    first: Owed
    ids: Sequence[int]
    runs: Sequence[int]
    repeated: bool
    attempts: int

    @staticmethod
    def of(message: Owed) -> "Bundle":
        """One message alone."""
        runs = () if message.run is None else (message.run,)
        return Bundle(message, (message.id,), runs, message.repeated, message.attempts)


class Row(NamedTuple):
    """A message as `modelwarden outbox` shows it; moments are seconds since the epoch."""

    id: int
    event: str
    destination: str
    kind: str
    run: str | None
    status: str
    attempts: int
    created_at: float
    next_at: float
    deadline: float
    last_error: str | None
    stands_for: str


_OWED_COLUMNS: Final = (
    "id, event, destination, kind, run, payload, attempts, repeated, created_at, deadline, stands_for"
)

# A message about a run waits while the catalog has no such run. The statuses stand in the text where an index needs it.
_DUE: Final = (
    "status = 'pending' AND destination = ? AND (next_at <= ? OR next_at > ?) "
    "AND (run IS NULL OR EXISTS (SELECT 1 FROM runs WHERE runs.run = outbox.run))"
)
_ALL_DUE: Final = f"FROM outbox WHERE {_DUE}"
_HURRIED_DUE: Final = f"FROM outbox INDEXED BY outbox_hurried WHERE hurried AND {_DUE}"
_THESE: Final = "id IN (SELECT value FROM json_each(?))"


class Outbox:
    """The tables `outbox`, `forgotten` and `mutes`.

    The daemon adds rows, the courier changes them, and a person does by a command.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = database.connection

    def owe(self, events: Iterable[Event], routes: Sequence[Route], now: float, deadline: float) -> int:
        """Add a row per event and route that asked for it, inside the caller's transaction; return how many.

        An event that a destination was owed before is not owed again, nor is one that was forgotten.
        """
        rows = [
            (
                event.id,
                route.name,
                event.kind,
                None if event.run is None else run_key(event.run),
                event.payload,
                Status.PENDING,
                now,
                now,
                deadline,
                event.id,
            )
            for event in events
            for route in routes
            if route.wants(event)
        ]
        cursor = self._connection.executemany(
            "INSERT OR IGNORE INTO outbox (event, destination, kind, run, payload, status, created_at, next_at, "
            "deadline) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM forgotten WHERE event = ?)",
            rows,
        )
        return cursor.rowcount if rows else 0

    def recover(self) -> int:
        """Put back what a courier that died was sending, marked as a possible repeat; return how many."""
        with self._database.transaction() as connection:
            return connection.execute(
                "UPDATE outbox SET status = ?, repeated = 1 WHERE status = ?",
                (Status.PENDING, Status.SENDING),
            ).rowcount

    def due(
        self,
        destination: str,
        now: float,
        longest_pause: float = math.inf,
        limit: int = -1,
        *,
        hurried: bool = False,
        newest: bool = False,
    ) -> list[Owed]:
        """What is to be sent to a destination now, oldest first.

        What would have to wait longer than the longest pause was put off before the clock was stepped back: it is due.

        Args:
            destination: its configured name.
            now: seconds since the epoch.
            longest_pause: in seconds.
            limit: most messages; all if negative.
            hurried: only what a person asked to try at once.
            newest: newest first.
        """
        rows = self._connection.execute(
            f"SELECT {_OWED_COLUMNS} {_HURRIED_DUE if hurried else _ALL_DUE} "
            f"ORDER BY id{' DESC' if newest else ''} LIMIT ?",
            (destination, now, now + longest_pause, limit),
        )
        return [Owed._make(row)._replace(kind=Kind(row[3]), repeated=bool(row[7])) for row in rows]

    def bundle(
        self, first: Owed, now: float, longest_pause: float = math.inf, most: int = -1, *, hurried: bool = False
    ) -> Bundle:
        """What is due and may be said in one with this message: of its kind, owed to the same one first.

        The oldest `most` of them, all if that is negative; see `due` for the rest.
        """
        rows = self._connection.execute(
            f"SELECT id, run, repeated, attempts {_HURRIED_DUE if hurried else _ALL_DUE} "
            "AND kind = ? AND stands_for = ? ORDER BY id LIMIT ?",
            (first.destination, now, now + longest_pause, first.kind, first.stands_for, most),
        ).fetchall()
        return Bundle(
            first,
            [row[0] for row in rows],
            [row[1] for row in rows if row[1] is not None],
            any(row[2] for row in rows),
            max((row[3] for row in rows), default=0),
        )

    def owed(self, ids: Sequence[int]) -> list[Owed]:
        """These, oldest first."""
        rows = self._connection.execute(f"SELECT {_OWED_COLUMNS} FROM outbox WHERE {_THESE} ORDER BY id", (_json(ids),))
        return [Owed._make(row)._replace(kind=Kind(row[3]), repeated=bool(row[7])) for row in rows]

    def payloads(self, ids: Sequence[int]) -> list[str]:
        """The texts of these, oldest first, of kinds without a run."""
        rows = self._connection.execute(f"SELECT payload FROM outbox WHERE {_THESE} ORDER BY id", (_json(ids),))
        return [text or "" for (text,) in rows]

    def sending(self, ids: Sequence[int]) -> int:
        """Commit that the send of these begins; return how many still wait for it (a person may have dropped some)."""
        with self._database.transaction() as connection:
            return connection.execute(
                f"UPDATE outbox SET status = ?, attempts = attempts + 1, hurried = 0 WHERE {_THESE} AND status = ?",
                (Status.SENDING, _json(ids), Status.PENDING),
            ).rowcount

    def delivered(self, ids: Sequence[int], now: float, also: Callable[[], object] = lambda: None) -> None:
        """Commit that the service took these, and what `also` records."""
        with self._database.transaction() as connection:
            connection.execute(
                f"UPDATE outbox SET status = ?, last_error = NULL, ended_at = ? WHERE {_THESE} AND status = ?",
                (Status.DELIVERED, now, _json(ids), Status.SENDING),
            )
            also()

    def failed(
        self,
        ids: Sequence[int],
        error: str,
        next_at: float,
        *,
        perhaps_sent: bool = False,
        is_final: bool = False,
        muted_until: float = 0.0,
        deadline_seconds: float = 0.0,
        also: Callable[[int], object] = lambda dead: dead,
    ) -> int:
        """Commit that the send of these failed; past its deadline a message is dead. Return how many are.

        Args:
            ids: what was to be sent.
            error: why it was not, without secrets.
            next_at: when to try again, seconds since the epoch.
            perhaps_sent: nobody knows whether the service took it (no answer in time): the next is a possible repeat.
            is_final: no later try can come to anything else: they are dead at once.
            muted_until: when the destination's last mute ends or ended. What was owed before had no chance until then:
            deadline_seconds: from there on it is tried for so long at least.
            also: recorded with it, told how many are dead.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE outbox SET last_error = ?, next_at = ?, repeated = max(repeated, ?), deadline = CASE "
                "WHEN ? > created_at THEN max(deadline, ?) ELSE deadline END "
                f"WHERE {_THESE} AND status = ?",
                (
                    error,
                    next_at,
                    perhaps_sent,
                    muted_until,
                    muted_until + deadline_seconds,
                    _json(ids),
                    Status.SENDING,
                ),
            )
            dead = connection.execute(
                f"UPDATE outbox SET status = ? WHERE {_THESE} AND status = ? AND (deadline < ? OR ?)",
                (Status.DEAD, _json(ids), Status.SENDING, next_at, is_final),
            ).rowcount
            connection.execute(
                f"UPDATE outbox SET status = ? WHERE {_THESE} AND status = ?",
                (Status.PENDING, _json(ids), Status.SENDING),
            )
            also(dead)
            return dead

    def give_up_without_run(self, destination: str, now: float) -> int:
        """Commit that what waited for its run until its deadline is dead; return how many are."""
        having = (
            "status = 'pending' AND destination = ? AND deadline < ? AND run IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.run = outbox.run)"
        )
        if not self._connection.execute(f"SELECT 1 FROM outbox WHERE {having} LIMIT 1", (destination, now)).fetchone():
            return 0
        with self._database.transaction() as connection:
            return connection.execute(
                f"UPDATE outbox SET status = ?, last_error = ? WHERE {having}",
                (Status.DEAD, NO_RUN, destination, now),
            ).rowcount

    def revive(self, event: str, run: str, now: float) -> None:
        """An event's run is in the catalog (again): inside the caller's transaction, its messages are about that run.

        What died for want of the run is tried again, for as long as it was tried at first.
        """
        self._connection.execute("UPDATE outbox SET run = ? WHERE event = ?", (run_key(run), event))
        self._connection.execute(
            "UPDATE outbox SET status = ?, next_at = ?, deadline = ? + deadline - created_at, last_error = NULL "
            "WHERE event = ? AND status = ? AND last_error = ?",
            (Status.PENDING, now, now, event, Status.DEAD, NO_RUN),
        )

    def hand_over(
        self,
        destination: str,
        fallback: str,
        now: float,
        deadline: float,
        *,
        owed_before: float,
        ids: Sequence[int] = (),
        except_about: str = "-",
    ) -> int:
        """Let another destination stand in; return how many messages it was not owed already.

        Each is a message of its own, also if the other one has its own about the same event, and says for whom it
        stands: the one that was owed it first. To that one it does not go back.

        Args:
            destination: which can't be reached.
            fallback: which stands in.
            now: seconds since the epoch.
            deadline: until when it is tried, likewise.
            owed_before: what waits since then or longer is handed over,
            ids: and so are these, if they are dead.
            except_about: but no event whose id begins so.
        """
        with self._database.transaction() as connection:
            return connection.execute(
                "INSERT OR IGNORE INTO outbox (event, destination, kind, run, payload, status, created_at, next_at, "
                "deadline, repeated, stands_for) SELECT event, :fallback, kind, run, payload, 'pending', :now, :now, "
                ":deadline, repeated, iif(stands_for = '', destination, stands_for) FROM outbox "
                "WHERE (status = 'pending' AND destination = :destination AND created_at <= :owed_before "
                "OR id IN (SELECT value FROM json_each(:ids)) AND status = 'dead') "
                "AND stands_for != :fallback AND substr(event, 1, length(:about)) != :about ORDER BY id",
                {
                    "fallback": fallback,
                    "now": now,
                    "destination": destination,
                    "owed_before": owed_before,
                    "deadline": deadline,
                    "ids": _json(ids),
                    "about": except_about,
                },
            ).rowcount

    def withdraw(self, event: str, reason: str, now: float) -> list[str]:
        """Inside the caller's transaction: an event is no news any more. Return who has heard of it, or may have."""
        self._connection.execute(
            "UPDATE outbox SET status = ?, last_error = ?, ended_at = ? WHERE event = ? AND status = ? "
            "AND NOT repeated",
            (Status.SUPPRESSED, reason, now, event, Status.PENDING),
        )
        rows = self._connection.execute(
            "SELECT DISTINCT destination FROM outbox WHERE event = ? AND status IN (?, ?, ?)",
            (event, Status.DELIVERED, Status.SENDING, Status.PENDING),
        )
        return [destination for (destination,) in rows]

    def forget(self, before: float) -> int:
        """Forget what was delivered or suppressed before that moment, FORGOTTEN_AT_ONCE at most; return how many.

        That it was announced stays known. What stands in for a message that is still open stays, lest it be handed
        over again.
        """
        rows = self._connection.execute(
            "SELECT id, event, kind FROM outbox WHERE ended_at < ? AND NOT EXISTS (SELECT 1 FROM outbox AS origin "
            "WHERE origin.event = outbox.event AND origin.destination = outbox.stands_for AND origin.ended_at IS NULL) "
            "ORDER BY ended_at LIMIT ?",
            (before, FORGOTTEN_AT_ONCE),
        ).fetchall()
        if not rows:
            return 0
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO forgotten VALUES (?)",
                # A problem's identity has its moment in it: it is noticed once.
                [(event,) for _, event, kind in rows if kind != Kind.PROBLEM],
            )
            connection.execute(f"DELETE FROM outbox WHERE {_THESE}", (_json([row[0] for row in rows]),))
        return len(rows)

    def mute(self, destination: str, until: float) -> None:
        """Leave a destination in peace until then (seconds since the epoch); a moment that is past ends it."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO mutes VALUES (?, ?)", (destination, until))

    def muted_until(self, destination: str) -> float:
        """When the last mute of a destination ends or ended, seconds since the epoch; 0 without one."""
        row = self._connection.execute("SELECT until FROM mutes WHERE destination = ?", (destination,)).fetchone()
        return 0.0 if row is None else float(row[0])

    def rows(self, status: Status, limit: int = -1) -> Iterator[Row]:
        """The messages that stand there, by destination and oldest first, for a person to look at; read as they go."""
        rows = self._connection.execute(
            "SELECT id, event, destination, kind, timestamp, status, attempts, created_at, next_at, deadline, "
            "last_error, stands_for FROM outbox LEFT JOIN runs USING (run) WHERE status = ? "
            "ORDER BY destination, id LIMIT ?",
            (status, limit),
        )
        return map(Row._make, rows)

    def statuses(self, ids: Sequence[int]) -> dict[int, Status]:
        """Where these stand, of those that there are."""
        rows = self._connection.execute(f"SELECT id, status FROM outbox WHERE {_THESE}", (_json(ids),))
        return {row: Status(status) for row, status in rows}

    def retry(self, ids: Sequence[int] | None, now: float, deadline_seconds: float) -> int:
        """Try these again at once, with a new deadline: dead ones live again. Return how many that were.

        At once means also if their destination is left in peace because it fails; not while it is mute.

        Args:
            ids: which; None for all that are dead.
            now: seconds since the epoch.
            deadline_seconds: how long they are tried.
        """
        which, values = (
            ("status = 'dead'", ()) if ids is None else (f"{_THESE} AND status IN ('dead', 'pending')", (_json(ids),))
        )
        with self._database.transaction() as connection:
            return connection.execute(
                f"UPDATE outbox SET status = ?, next_at = ?, deadline = ?, hurried = 1 WHERE {which}",
                (Status.PENDING, now, now + deadline_seconds, *values),
            ).rowcount

    def drop(self, ids: Sequence[int], now: float) -> int:
        """Give these up, unless they were delivered; return how many that were."""
        with self._database.transaction() as connection:
            return connection.execute(
                f"UPDATE outbox SET status = ?, last_error = ?, ended_at = ? WHERE {_THESE} AND status IN (?, ?)",
                (Status.SUPPRESSED, "dropped by hand", now, _json(ids), Status.DEAD, Status.PENDING),
            ).rowcount

    def counts(self, destinations: Collection[str] | None = None) -> dict[Status, int]:
        """How many rows stand where, of these destinations or of all; every status is present."""
        counts = dict.fromkeys(Status, 0)
        for destination, status, count in self.tallies():
            if destinations is None or destination in destinations:
                counts[status] += count
        return counts

    def tallies(self) -> list[tuple[str, Status, int]]:
        """How many rows of each destination stand where, by destination."""
        rows = self._connection.execute("SELECT destination, status, count(*) FROM outbox GROUP BY status, destination")
        return sorted((destination, Status(status), count) for destination, status, count in rows)


def _json(ids: Sequence[int]) -> str:
    return json.dumps(list(ids))
