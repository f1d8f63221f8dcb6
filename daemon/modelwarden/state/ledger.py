"""The ledger: which files were dealt with, and how.

The rule: a file is known by its bytes (sha256). The fingerprint kept here only spares reading it again, and counts
only while all of them are the same.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from modelwarden.fingerprint import Fingerprint
from modelwarden.state.database import Database


class Dealt(NamedTuple):
    """A file that needs no more work while its fingerprint stays.

    Attributes:
        path: as the scan gives it.
        fingerprint: of the bytes that were read.
        sha256: of those bytes.
        run: the run they became, or None for a rejected file.
        reason: why it was rejected, or None.
    """

    path: str
    fingerprint: Fingerprint
    sha256: str
    run: str | None
    reason: str | None


class Ledger:
    """The files of this host's watched folders. Reads come from memory, so a scan costs no query a file."""

    def __init__(self, database: Database) -> None:
        self._connection = database.connection
        self._known: dict[str, tuple[str, str | None]] = {}
        self.reload()

    def reload(self) -> None:
        """Take over into memory what the table has, for others may have dropped files meanwhile."""
        self._known = {
            os.fsdecode(path): (fingerprint, run)
            for path, fingerprint, run in self._connection.execute("SELECT path, figures, run FROM files")
        }

    def __len__(self) -> int:
        return len(self._known)

    def is_dealt_with(self, path: str, fingerprint: Fingerprint) -> bool:
        """Whether the file at the path was archived or rejected, and is still that file."""
        known = self._known.get(path)
        return known is not None and known[0] == _text(fingerprint)

    def run(self, path: str) -> str | None:
        """The run that what is known at the path became; None for a rejected file, and for what is not known."""
        known = self._known.get(path)
        return None if known is None else known[1]

    def device(self, path: str) -> int | None:
        """The device that the file was on, or None for a path that is not known."""
        known = self._known.get(path)
        return None if known is None else int(known[0].partition(":")[0])

    def record(self, files: Iterable[Dealt]) -> None:
        """Note files, inside the caller's transaction; call `remember` after it."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
            [(os.fsencode(file.path), _text(file.fingerprint), file.sha256, file.run, file.reason) for file in files],
        )

    def remember(self, files: Iterable[Dealt]) -> None:
        """Take over into memory what the committed transaction recorded."""
        for file in files:
            self._known[file.path] = (_text(file.fingerprint), file.run)

    def paths(self) -> Iterator[str]:
        """Every path that is known."""
        return iter(self._known)

    def forget(self, paths: Iterable[str]) -> None:
        """Drop files that are gone, inside the caller's transaction."""
        gone = list(paths)
        self._connection.executemany("DELETE FROM files WHERE path = ?", [(os.fsencode(path),) for path in gone])
        for path in gone:
            self._known.pop(path, None)

    def forget_runs(self, names: Collection[str]) -> None:
        """Drop the files of runs that the archive no longer has, inside the caller's transaction.

        A file that is still there is no longer dealt with: it is archived again.
        """
        self.forget([path for path, (_, run) in self._known.items() if run in names] if names else ())

    def reject(self, identity: str, at: str, path: str, reason: str) -> bool:
        """Note rejected bytes, inside the caller's transaction; False if these bytes are noted already."""
        cursor = self._connection.execute(
            "INSERT OR IGNORE INTO rejections VALUES (?, ?, ?, ?)", (identity, at, path, reason)
        )
        return cursor.rowcount == 1


def _text(fingerprint: Fingerprint) -> str:
    return "%d:%d:%d:%d:%d" % fingerprint  # noqa: UP031 - three times as fast as a join, and a scan asks once a file
