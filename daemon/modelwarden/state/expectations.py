"""Watched folders from which summaries are expected: when the last one came, and who was told that none did.

The rule: a folder's silence is announced once, and its end once, over any number of restarts.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from modelwarden.state.database import Database


class Expectation(NamedTuple):
    """What is known of one folder.

    Attributes:
        seen_at: when the last summary came, seconds since the epoch; when the folder was first watched, before one did.
        is_overdue: whether its silence was announced.
    """

    seen_at: float
    is_overdue: bool


class Expectations:
    """The table `expectations`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, path: str, now: float) -> Expectation:
        """What is known of a folder; from now on, if nothing is."""
        row = self._database.connection.execute(
            "SELECT seen_at, is_overdue FROM expectations WHERE path = ?", (os.fsencode(path),)
        ).fetchone()
        if row is None:
            known = Expectation(now, is_overdue=False)
            self.note(path, known)
            return known
        return Expectation(float(row[0]), bool(row[1]))

    def note(self, path: str, expectation: Expectation, announce: Callable[[], object] = lambda: None) -> None:
        """Take over what is known now, and what `announce` records, in one transaction.

        Raises:
            RetryLater: the state file refused; nothing is recorded.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO expectations VALUES (?, ?, ?)",
                (os.fsencode(path), expectation.seen_at, expectation.is_overdue),
            )
            announce()
