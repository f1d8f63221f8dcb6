"""The outbox for who only looks: what stands where.

The rule: nothing is changed, so it may stand over a connection that can't write.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from modelwarden.state.messages import Row, Status
from modelwarden.state.reading import Messages, Unreadable, open_messages

THESE: Final = "id IN (SELECT value FROM json_each(:ids))"
"""A condition on the rows of some messages; `these` is what it names."""


class OutboxView:
    """The tables `outbox` and `mutes`, to be asked.

    Args:
        connection: to the state file; the right to read is enough.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, status: Status, limit: int = -1) -> Iterator[Row]:
        """The messages that stand there, by destination and oldest first, for a person to look at; read as they go."""
        rows = self._connection.execute(
            "SELECT id, event, destination, kind, timestamp, status, attempts, created_at, next_at, deadline, "
            "last_error, stands_for FROM outbox LEFT JOIN all_runs USING (run) WHERE status = ? "
            "ORDER BY destination, id LIMIT ?",
            (status, limit),
        )
        return map(Row._make, rows)

    def statuses(self, ids: Sequence[int]) -> dict[int, Status]:
        """Where these stand, of those that there are."""
        rows = self._connection.execute(f"SELECT id, status FROM outbox WHERE {THESE}", these(ids))
        return {row: Status(status) for row, status in rows}

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

    def is_waiting(self, destinations: Collection[str]) -> bool:
        """Whether a message to one of these waits, due or not."""
        return any(
            self._connection.execute(
                "SELECT 1 FROM outbox WHERE status = 'pending' AND destination = ? LIMIT 1", (each,)
            ).fetchone()
            for each in destinations
        )

    def muted_until(self, destination: str) -> float:
        """When the last mute of a destination ends or ended, seconds since the epoch; 0 without one."""
        row = self._connection.execute("SELECT until FROM mutes WHERE destination = ?", (destination,)).fetchone()
        return 0.0 if row is None else float(row[0])

    def open_messages(self) -> Messages | None:
        """How many messages stand open; None if the file can't be asked just now."""
        try:
            return open_messages(self._connection)
        except Unreadable:
            return None


def these(ids: Sequence[int]) -> dict[str, object]:
    """What THESE names."""
    return {"ids": json.dumps(list(ids))}
