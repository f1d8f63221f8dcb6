"""The outbox: messages owed, one row per (event, destination, whom it stands in for), from `pending` to `delivered`.

The rule: a row is written in the transaction that records what it is about, and `sending` is committed before a send
begins. So a crash can repeat a message, marked as a possible repeat, and can't lose one. `messages.Move` has every way
from one state to another, and `_move` is the one place that goes any. What is forgotten is never owed again.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from modelwarden.state.database import Database
from modelwarden.state.messages import (
    BEGIN,
    DELIVER,
    DROP,
    FIND,
    GIVE_UP,
    LOSE,
    PUT_OFF,
    RECOVER,
    RETRY,
    WITHDRAW,
    Bundle,
    Event,
    Judged,
    Kind,
    Move,
    Noticed,
    Owed,
    Payload,
    Route,
    Status,
)
from modelwarden.state.outbox_view import THESE, OutboxView, these

NO_RUN: Final = "its run is not in the archive"
"""Why a message is dead whose run nobody knows any more; the run's return revives it."""

FORGOTTEN_AT_ONCE: Final = 500
"""Most rows that one transaction forgets: a few milliseconds."""

_OWED_COLUMNS: Final = (
    "id, event, destination, kind, run, payload, attempts, repeated, created_at, deadline, stands_for"
)

# The statuses stand in the text where an index needs it.
_DUE: Final = "status = 'pending' AND destination = ? AND (next_at <= ? OR next_at > ?)"
_ALL_DUE: Final = f"FROM outbox WHERE {_DUE}"
_HURRIED_DUE: Final = f"FROM outbox INDEXED BY outbox_hurried WHERE hurried AND {_DUE}"


class Outbox(OutboxView):
    """The tables `outbox`, `forgotten` and `mutes`.

    The daemon adds rows, the courier changes them, and a person does by a command.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database.connection)
        self._database = database

    def owe(self, events: Iterable[Event], routes: Sequence[Route], now: float, deadline: float) -> int:
        """Add a row per event and route that asked for it, inside the caller's transaction; return how many.

        An event that a destination was owed before is not owed again, nor is one that was forgotten.
        """
        rows = [
            (
                event.id,
                route.name,
                event.kind,
                *_columns(event.payload),
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
        with self._database.transaction():
            return self._move(RECOVER, set_also="repeated = 1")

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
        return list(map(_owed, rows))

    def bundle(
        self, first: Owed, now: float, longest_pause: float = math.inf, most: int = -1, *, hurried: bool = False
    ) -> Bundle:
        """What is due and may be said in one with this message: of its kind, owed to the same one first.

        The oldest `most` of them, all if that is negative; see `due` for the rest.
        """
        rows = self._connection.execute(
            f"SELECT id, run, payload, repeated, attempts {_HURRIED_DUE if hurried else _ALL_DUE} "
            "AND kind = ? AND stands_for = ? ORDER BY id LIMIT ?",
            (first.destination, now, now + longest_pause, first.kind, first.stands_for, most),
        ).fetchall()
        return Bundle(
            first,
            [row[0] for row in rows],
            [_payload(row[1], row[2]) for row in rows],
            any(row[3] for row in rows),
            max((row[4] for row in rows), default=0),
        )

    def owed(self, ids: Sequence[int]) -> list[Owed]:
        """These, oldest first."""
        rows = self._connection.execute(f"SELECT {_OWED_COLUMNS} FROM outbox WHERE {THESE} ORDER BY id", these(ids))
        return list(map(_owed, rows))

    def sending(self, ids: Sequence[int]) -> int:
        """Commit that the send of these begins; return how many still wait for it (a person may have dropped some)."""
        with self._database.transaction():
            return self._move(BEGIN, THESE, these(ids), set_also="attempts = attempts + 1, hurried = 0")

    def delivered(self, ids: Sequence[int], now: float, also: Callable[[], object] = lambda: None) -> None:
        """Commit that the service took these, and what `also` records."""
        with self._database.transaction():
            values = these(ids) | {"now": now}
            self._move(DELIVER, THESE, values, set_also="last_error = NULL, ended_at = :now")
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
        values = these(ids) | {
            "error": error,
            "next_at": next_at,
            "perhaps_sent": perhaps_sent,
            "is_final": is_final,
            "muted_until": muted_until,
            "at_least_until": muted_until + deadline_seconds,
        }
        until = "iif(:muted_until > created_at, max(deadline, :at_least_until), deadline)"
        said = f"last_error = :error, next_at = :next_at, repeated = max(repeated, :perhaps_sent), deadline = {until}"
        with self._database.transaction():
            dead = self._move(GIVE_UP, f"{THESE} AND ({until} < :next_at OR :is_final)", values, set_also=said)
            self._move(PUT_OFF, THESE, values, set_also=said)
            also(dead)
            return dead

    def lose(self, ids: Sequence[int]) -> int:
        """Commit that those of these whose run nobody knows any more are dead; return how many are."""
        with self._database.transaction():
            unknown = "run IS NOT NULL AND NOT EXISTS (SELECT 1 FROM all_runs WHERE all_runs.run = outbox.run)"
            values = these(ids) | {"error": NO_RUN}
            return self._move(LOSE, f"{THESE} AND {unknown}", values, set_also="last_error = :error")

    def is_owed(self, event: str, run: int | None = None) -> bool:
        """Whether a message about the event is not over: it waits, is on its way, or is dead and may be revived.

        Args:
            event: its id.
            run: only those count that say the run of this key; None: all.
        """
        rows = self._connection.execute(
            "SELECT 1 FROM outbox WHERE event = ? AND ended_at IS NULL AND run = ifnull(?, run) LIMIT 1", (event, run)
        )
        return rows.fetchone() is not None

    def is_about(self, event: str, run: int) -> None:
        """Inside the caller's transaction: the run that the event is about has this key now."""
        self._connection.execute("UPDATE outbox SET run = ? WHERE event = ?", (run, event))

    def revive(self, event: str, run: int, now: float) -> None:
        """An event's run is in the catalog (again): inside the caller's transaction, its messages are about that run.

        What died for want of the run is tried again, for as long as it was tried at first.
        """
        self.is_about(event, run)
        self._move(
            FIND,
            "event = :event AND last_error = :error",
            {"event": event, "error": NO_RUN, "now": now},
            set_also="next_at = :now, deadline = :now + deadline - created_at, last_error = NULL",
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
                    "ids": json.dumps(list(ids)),
                    "about": except_about,
                },
            ).rowcount

    def withdraw(self, event: str, reason: str, now: float) -> list[str]:
        """Inside the caller's transaction: an event is no news any more. Return who has heard of it, or may have."""
        self._move(
            WITHDRAW,
            "event = :event AND NOT repeated",
            {"event": event, "reason": reason, "now": now},
            set_also="last_error = :reason, ended_at = :now",
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
            connection.execute(f"DELETE FROM outbox WHERE {THESE}", these([row[0] for row in rows]))
        return len(rows)

    def mute(self, destination: str, until: float) -> None:
        """Leave a destination in peace until then (seconds since the epoch); a moment that is past ends it."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO mutes VALUES (?, ?)", (destination, until))

    def retry(self, ids: Sequence[int] | None, now: float, deadline_seconds: float) -> int:
        """Try these again at once, with a new deadline: dead ones live again. Return how many that were.

        At once means also if their destination is left in peace because it fails; not while it is mute.

        Args:
            ids: which; None for all that are dead.
            now: seconds since the epoch.
            deadline_seconds: how long they are tried.
        """
        which, values = ("status = 'dead'", {}) if ids is None else (THESE, these(ids))
        with self._database.transaction():
            return self._move(
                RETRY,
                which,
                values | {"now": now, "deadline": now + deadline_seconds},
                set_also="next_at = :now, deadline = :deadline, hurried = 1",
            )

    def drop(self, ids: Sequence[int], now: float) -> int:
        """Give these up, unless they were delivered; return how many that were."""
        with self._database.transaction():
            values = these(ids) | {"reason": "dropped by hand", "now": now}
            return self._move(DROP, THESE, values, set_also="last_error = :reason, ended_at = :now")

    def _move(
        self, move: Move, which: str = "TRUE", values: Mapping[str, object] | None = None, *, set_also: str
    ) -> int:
        """Inside a transaction: make the move with the messages that it may be made with; return how many did.

        Args:
            move: which.
            which: a condition on the rows.
            values: what it and `set_also` name.
            set_also: what else is written.
        """
        before = ", ".join(f"'{status}'" for status in move.before)  # in the text, for the index
        return self._connection.execute(
            f"UPDATE outbox SET status = '{move.after}', {set_also} WHERE status IN ({before}) AND {which}",
            values or {},
        ).rowcount


def _owed(row: Sequence[Any]) -> Owed:
    """The message in a row of _OWED_COLUMNS."""
    identity, event, destination, kind, run, text, attempts, repeated, *rest = row
    return Owed(identity, event, destination, Kind(kind), _payload(run, text), attempts, bool(repeated), *rest)


def _payload(run: int | None, text: str | None) -> Payload:
    return Noticed(text or "") if run is None else Judged(run)


def _columns(payload: Payload) -> tuple[int | None, str | None]:
    """The payload as the columns `run` and `payload`."""
    match payload:
        case Judged(run):
            return run, None
        case Noticed(text):
            return None, text
