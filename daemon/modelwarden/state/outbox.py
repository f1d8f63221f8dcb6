"""The outbox: messages owed, one row per (event, destination), from `pending` to `delivered` or `dead`.

The rule: a row is written in the transaction that records what it is about, and `sending` is committed before a send
begins. So a crash can repeat a message, marked as a possible repeat, and can't lose one.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from modelwarden.gate.timestamp import run_key
from modelwarden.state.database import Database


class Kind(StrEnum):
    """What a message is about."""

    RUN = "RUN"
    REJECTED = "REJECTED"


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
    """

    name: str
    on: frozenset[str]


class Event(NamedTuple):
    """Something to announce.

    Attributes:
        id: the same for the same event, however often it is noticed.
        kind: what it is about.
        topics: what it has to say; a route that asked for none of them is not owed it.
        run: the run's name, for RUN.
        payload: the message's text, for the other kinds.
    """

    id: str
    kind: Kind
    topics: Collection[str]
    run: str | None
    payload: str | None


class Owed(NamedTuple):
    """A message to deliver.

    Attributes:
        id: the row.
        event: the event's id.
        destination: the destination's configured name.
        kind: what it is about.
        run: the run's key (see gate.timestamp.run_key), or None.
        run_timestamp: the run's name, or None where the archive no longer has it.
        payload: the text, for kinds without a run.
        attempts: sends begun before.
        repeated: whether a send began whose end nobody saw.
        created_at: seconds since the epoch.
        deadline: seconds since the epoch; past it the message is dead.
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


class Outbox:
    """The table `outbox`. The daemon adds rows, the courier alone changes them."""

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
            if not route.on.isdisjoint(event.topics)
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

    def due(self, now: float, destinations: Sequence[str]) -> list[Owed]:
        """What is to be sent now to these destinations, oldest first."""
        marks = ", ".join("?" * len(destinations))
        rows = self._connection.execute(
            "SELECT id, event, destination, kind, outbox.run, timestamp, payload, attempts, repeated, created_at, "
            f"deadline FROM outbox LEFT JOIN runs USING (run) WHERE status = ? AND next_at <= ? "
            f"AND destination IN ({marks}) ORDER BY id",
            (Status.PENDING, now, *destinations),
        )
        return [Owed._make(row)._replace(kind=Kind(row[3]), repeated=bool(row[8])) for row in rows]

    def next_due(self) -> float | None:
        """When the next pending message wants sending, seconds since the epoch; None where none is pending."""
        (moment,) = self._connection.execute(
            "SELECT min(next_at) FROM outbox WHERE status = ?", (Status.PENDING,)
        ).fetchone()
        return None if moment is None else float(moment)

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

    def suppress(self, messages: Iterable[Owed], reason: str) -> None:
        """Commit that these need not be sent any more."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE outbox SET status = ?, last_error = ? WHERE id = ?",
                [(Status.SUPPRESSED, reason, message.id) for message in messages],
            )

    def counts(self) -> dict[Status, int]:
        """How many rows stand where; every status is present."""
        counts = dict.fromkeys(Status, 0)
        for status, count in self._connection.execute("SELECT status, count(*) FROM outbox GROUP BY status"):
            counts[Status(status)] = count
        return counts
