"""The state file for who only asks: opened without the right to write, and without a trace.

The rule: nothing is written, made or waited for. A state file that can't be read like this is as good as none: the
archive's folders say the same, more slowly.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final, NamedTuple
from urllib.parse import quote

from modelwarden.state.database import SCHEMA, STATE_FILE

Unreadable = sqlite3.Error
"""What a query raises if the file turns out to be damaged, or was written to under a reader that took it for idle."""


class Messages(NamedTuple):
    """How many messages stand open.

    Attributes:
        owed: that wait or are on their way.
        dead: that were given up.
        oldest: when the oldest that is owed came, seconds since the epoch; None if none is.
    """

    owed: int
    dead: int
    oldest: float | None


class Snapshot:
    """An open state file that is only read.

    Args:
        connection: to it.

    Attributes:
        connection: for the catalog.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def archive_id(self) -> str | None:
        """The id of the archive that the state is about; None before one was seen."""
        row = self.connection.execute("SELECT archive_id FROM identity").fetchone()
        return None if row is None else row[0]

    def messages(self) -> Messages:
        """How many messages stand open."""
        return open_messages(self.connection)

    def rejected_since(self, moment: str) -> int:
        """How many files were rejected since a moment, ISO 8601 in UTC."""
        (count,) = self.connection.execute("SELECT count(*) FROM rejections WHERE at >= ?", (moment,)).fetchone()
        return int(count)


def open_messages(connection: sqlite3.Connection) -> Messages:
    """How many messages stand open. Raises Unreadable if the file can't be asked."""
    return Messages(
        *connection.execute(
            "SELECT ifnull(sum(status IN ('pending', 'sending')), 0), ifnull(sum(status = 'dead'), 0), "
            "min(iif(status IN ('pending', 'sending'), created_at, NULL)) FROM outbox "
            "WHERE status IN ('pending', 'sending', 'dead')"
        ).fetchone()
    )


@contextmanager
def reading(state_dir: str) -> Iterator[Snapshot | None]:
    """The state file of that folder; None if there is none, or none that this version can read as it is."""
    connection = _opened(os.path.join(state_dir, STATE_FILE))
    if connection is None:
        yield None
        return
    with closing(connection):
        yield Snapshot(connection)


def _opened(path: str) -> sqlite3.Connection | None:
    """A connection to a file of this schema, or None."""
    if not os.access(path, os.R_OK):
        return None
    # With nobody at work there is no log beside it, and without the right to write SQLite could make none.
    how = "mode=ro&readonly_shm=1" if _has_frames(f"{path}-wal") else "immutable=1"
    try:
        connection = sqlite3.connect(f"file:{quote(path)}?{how}", uri=True, isolation_level=None)
        try:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone()
        except sqlite3.Error:
            connection.close()
            return None
    except sqlite3.Error:
        return None
    if schema == SCHEMA:
        return connection
    connection.close()
    return None


_LOG_HEAD: Final = 32
"""Bytes of a log before its first frame (https://www.sqlite.org/fileformat.html, section 4.1)."""


def _has_frames(log: str) -> bool:
    """Whether anything stands in the log: over one that only begins, SQLite waits ten seconds for who writes it."""
    try:
        return os.stat(log).st_size > _LOG_HEAD
    except OSError:
        return False
