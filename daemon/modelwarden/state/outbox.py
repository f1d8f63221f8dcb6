"""The outbox: messages owed, one row per (event, destination), from `pending` to `delivered` or `dead`.

The rule: a row is written in the transaction that records what it is about, and `sending` is committed before a send
begins. So a crash can repeat a message, marked as a possible repeat, and can't lose one.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from modelwarden.gate.timestamp import run_key
from modelwarden.state.database import Database

NO_RUN: Final = "its run is not in the archive"
"""Why a message is dead whose run was away until its deadline; the run's return revives it."""


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
        models: symbol and class of each model of the run; () where no route chooses by symbol.
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
        run_timestamp: the run's name, or None while it is not in the catalog.
        payload: the text, for kinds without a run.
        attempts: sends begun before.
        repeated: whether a send began whose end nobody saw.
        created_at: seconds since the epoch.
        deadline: seconds since the epoch; past it the message is dead.
        stands_for: the destination that it was owed to first, where this one stands in for it.
    """

    id: int
    event: str
    destination: str
    kind: Kind
    run: int | None
    run_timestamp: str | None
    payload: str | None
    attempts: int
    repeated: bool
    created_at: float
    deadline: float
    stands_for: str | None


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


class Outbox:
    """The tables `outbox` and `mutes`. The daemon adds rows, the courier changes them, and a person by a command."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = database.connection

    def owe(self, events: Iterable[Event], routes: Sequence[Route], now: float, deadline: float) -> int:
        """Add a row per event and route that asked for it, inside the caller's transaction; return how many.

        An event that a destination was owed before is not owed again.
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
            )
            for event in events
            for route in routes
            if route.wants(event)
        ]
        cursor = self._connection.executemany(
            "INSERT OR IGNORE INTO outbox (event, destination, kind, run, payload, status, created_at, next_at, "
            "deadline) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
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

    def due(self, now: float, destinations: Sequence[str], longest_pause: float = math.inf) -> list[Owed]:
        """What is to be sent now to these destinations, oldest first.

        What would have to wait longer than the longest pause was put off before the clock was stepped back: it is due.
        """
        marks = ", ".join("?" * len(destinations))
        rows = self._connection.execute(
            "SELECT id, event, destination, kind, outbox.run, timestamp, payload, attempts, repeated, created_at, "
            "deadline, stands_for FROM outbox LEFT JOIN runs USING (run) WHERE status = ? "
            f"AND (next_at <= ? OR next_at > ?) "
            f"AND destination IN ({marks}) ORDER BY id",
            (Status.PENDING, now, now + longest_pause, *destinations),
        )
        return [Owed._make(row)._replace(kind=Kind(row[3]), repeated=bool(row[8])) for row in rows]

    def sending(self, messages: Iterable[Owed]) -> None:
        """Commit that these sends begin."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE outbox SET status = ?, attempts = attempts + 1 WHERE id = ?",
                [(Status.SENDING, message.id) for message in messages],
            )

    def delivered(self, messages: Iterable[Owed]) -> None:
        """Commit that the service took these."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE outbox SET status = ?, last_error = NULL WHERE id = ?",
                [(Status.DELIVERED, message.id) for message in messages],
            )

    def failed(self, messages: Iterable[Owed], error: str, next_at: float, *, perhaps_sent: bool = False) -> None:
        """Commit that these sends failed, and when to try again; past its deadline a message is dead.

        Args:
            messages: what was to be sent.
            error: why it was not, without secrets.
            next_at: seconds since the epoch.
            perhaps_sent: nobody knows whether the service took it (no answer in time): the next is a possible repeat.
        """
        rows = [
            (Status.DEAD if next_at > each.deadline else Status.PENDING, error, next_at, perhaps_sent, each.id)
            for each in messages
        ]
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE outbox SET status = ?, last_error = ?, next_at = ?, repeated = max(repeated, ?) WHERE id = ?",
                rows,
            )

    def give_up(self, messages: Iterable[Owed]) -> None:
        """Commit that these had no run until their deadline."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE outbox SET status = ?, last_error = ? WHERE id = ?",
                [(Status.DEAD, NO_RUN, message.id) for message in messages],
            )

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

    def hand_over(self, messages: Iterable[Owed], fallback: str, now: float) -> int:
        """Owe these to another destination as well, which stands in; return how many it was not owed already."""
        with self._database.transaction() as connection:
            cursor = connection.executemany(
                "INSERT OR IGNORE INTO outbox (event, destination, kind, run, payload, status, created_at, next_at, "
                "deadline, repeated, stands_for) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        each.event,
                        fallback,
                        each.kind,
                        each.run,
                        each.payload,
                        Status.PENDING,
                        now,
                        now,
                        now + (each.deadline - each.created_at),
                        each.repeated,
                        each.stands_for or each.destination,
                    )
                    for each in messages
                ],
            )
            return cursor.rowcount

    def mute(self, destination: str, until: float) -> None:
        """Leave a destination in peace until then (seconds since the epoch); a moment that is past ends it."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO mutes VALUES (?, ?)", (destination, until))

    def muted_until(self, destination: str) -> float:
        """When the last mute of a destination ends or ended, seconds since the epoch; 0 without one."""
        row = self._connection.execute("SELECT until FROM mutes WHERE destination = ?", (destination,)).fetchone()
        return 0.0 if row is None else float(row[0])

    def rows(self, *statuses: Status) -> list[Row]:
        """The messages that stand there, oldest first, for a person to look at."""
        marks = ", ".join("?" * len(statuses))
        rows = self._connection.execute(
            "SELECT id, event, destination, kind, timestamp, status, attempts, created_at, next_at, deadline, "
            f"last_error FROM outbox LEFT JOIN runs USING (run) WHERE status IN ({marks}) ORDER BY id",
            statuses,
        )
        return [Row._make(row) for row in rows]

    def retry(self, ids: Sequence[int], now: float, deadline_seconds: float) -> int:
        """Try these again at once, with a new deadline: dead ones live again. Return how many that were."""
        with self._database.transaction() as connection:
            return connection.executemany(
                "UPDATE outbox SET status = ?, next_at = ?, deadline = ? WHERE id = ? AND status IN (?, ?)",
                [(Status.PENDING, now, now + deadline_seconds, each, Status.DEAD, Status.PENDING) for each in ids],
            ).rowcount

    def drop(self, ids: Sequence[int]) -> int:
        """Give these up, unless they were delivered; return how many that were."""
        with self._database.transaction() as connection:
            return connection.executemany(
                "UPDATE outbox SET status = ?, last_error = ? WHERE id = ? AND status IN (?, ?)",
                [(Status.SUPPRESSED, "dropped by hand", each, Status.DEAD, Status.PENDING) for each in ids],
            ).rowcount

    def counts(self) -> dict[Status, int]:
        """How many rows stand where; every status is present."""
        counts = dict.fromkeys(Status, 0)
        for status, count in self._connection.execute("SELECT status, count(*) FROM outbox GROUP BY status"):
            counts[Status(status)] = count
        return counts
