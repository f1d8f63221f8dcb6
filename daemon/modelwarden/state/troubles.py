"""Destinations that fail: since when, and whether the others were told.

The rule: a trouble is told once and its end once, over any number of restarts. So each is noted in the transaction that
records the send it came of.
"""

from collections.abc import Collection
from typing import NamedTuple

from modelwarden.state.database import Database


class Trouble(NamedTuple):
    """What is known of a destination that fails.

    Attributes:
        since: when it failed first since it last took a message, seconds since the epoch.
        is_told: whether the others were told.
    """

    since: float
    is_told: bool


class Troubles:
    """The table `troubles`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = database.connection

    def of(self, destination: str) -> Trouble | None:
        """What is known of a destination; None if it does not fail."""
        row = self._connection.execute(
            "SELECT since, is_told FROM troubles WHERE destination = ?", (destination,)
        ).fetchone()
        return None if row is None else Trouble(float(row[0]), bool(row[1]))

    def note(self, destination: str, trouble: Trouble) -> None:
        """Take over what is known now, inside the caller's transaction."""
        self._connection.execute("INSERT OR REPLACE INTO troubles VALUES (?, ?, ?)", (destination, *trouble))

    def end(self, destination: str) -> None:
        """It fails no more; inside the caller's transaction."""
        self._connection.execute("DELETE FROM troubles WHERE destination = ?", (destination,))

    def keep(self, destinations: Collection[str]) -> None:
        """Forget all others: they are not configured any more."""
        known = [name for (name,) in self._connection.execute("SELECT destination FROM troubles")]
        if gone := [name for name in known if name not in destinations]:
            with self._database.transaction():
                for name in gone:
                    self.end(name)
