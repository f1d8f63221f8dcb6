"""The table of decisions, made from the archive's `reviews/`.

The rule: it holds what the files say, and whether each was announced, which nobody else knows. What it saw once and is
not there any more it does not forget by itself: a state is a witness of the archive's record.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from modelwarden.gate.assessment import Classification
from modelwarden.gate.decision import Decision, Verb
from modelwarden.state.catalog import Connected

_COLUMNS: Final = ", ".join(Decision._fields)
_MARKS: Final = ", ".join("?" * (len(Decision._fields) + 2))


class SeenDecision(NamedTuple):
    """A decision that the state saw in the archive.

    Attributes:
        digest: the sha256 of its file.
        number: its own.
        run: the run's name.
        is_kept: whether it is in the table; else it was, and is not in the archive as it was.
    """

    digest: str
    number: int
    run: str
    is_kept: bool


class Decided:
    """The tables `decisions`, `lost_decisions` and `review_folders`."""

    def __init__(self, database: Connected) -> None:
        self._connection = database.connection

    def seen(self) -> list[SeenDecision]:
        """Every decision that was ever seen, by number."""
        rows = self._connection.execute(
            "SELECT digest, number, run, 1 FROM decisions UNION ALL SELECT digest, number, run, 0 FROM lost_decisions "
            "ORDER BY number"
        )
        return [SeenDecision(digest, number, run, bool(there)) for digest, number, run, there in rows]

    def looks(self) -> Mapping[str, str]:
        """How each folder looked when the table had all of it, by the run's name."""
        return dict(self._connection.execute("SELECT run, look FROM review_folders"))

    def end(self) -> tuple[int, str]:
        """Number and digest of the last decision that was ever seen, as it was seen first; 0 and "" before one was."""
        row = self._connection.execute(
            "SELECT number, digest FROM (SELECT number, digest, 1 AS place FROM lost_decisions "
            "UNION ALL SELECT number, digest, 2 FROM decisions WHERE number = (SELECT max(number) FROM decisions)) "
            "ORDER BY number DESC, place LIMIT 1"
        ).fetchone()
        return (0, "") if row is None else (row[0], row[1])

    def lost(self) -> list[int]:
        """The numbers of those that are not in the archive as they were."""
        return [number for (number,) in self._connection.execute("SELECT number FROM lost_decisions ORDER BY number")]

    def forget_lost(self) -> int:
        """Let go of them, inside the caller's transaction; return how many."""
        return self._connection.execute("DELETE FROM lost_decisions").rowcount

    def forget_all(self) -> None:
        """Let go of everything, inside the caller's transaction: it is about another archive."""
        for table in ("decisions", "lost_decisions", "review_folders"):
            self._connection.execute(f"DELETE FROM {table}")

    def keep(self, looks: Mapping[str, str], files: Iterable[tuple[str, Decision]], daemon_id: str) -> None:
        """Make the table hold these of the runs, and no others; inside the caller's transaction.

        What another state's owner decided is that one's to announce, and what takes the place of one that was altered
        is nobody's.

        Args:
            looks: how the folder of each run looks, as `looks` gives it back; "" if it is to be read again.
            files: the decisions in these folders, by the sha256 of their files.
            daemon_id: this state's.
        """
        files = list(files)
        wanted = {digest for digest, _ in files}
        rows = [
            row
            for run in looks
            for row in self._connection.execute("SELECT digest, number, run FROM decisions WHERE run = ?", (run,))
        ]
        known = {digest for digest, _, _ in rows}
        gone = [row for row in rows if row[0] not in wanted]
        self._connection.executemany("INSERT OR REPLACE INTO lost_decisions VALUES (?, ?, ?)", gone)
        self._connection.executemany("DELETE FROM decisions WHERE digest = ?", [(digest,) for digest, _, _ in gone])
        self._connection.executemany("DELETE FROM lost_decisions WHERE digest = ?", [(each,) for each in wanted])
        seen = set(self.lost())
        self._connection.executemany(
            f"INSERT INTO decisions (digest, {_COLUMNS}, announced) VALUES ({_MARKS})",
            [
                (digest, *each, each.daemon_id != daemon_id or each.number in seen)
                for digest, each in files
                if digest not in known
            ],
        )
        self._connection.executemany("DELETE FROM review_folders WHERE run = ?", [(run,) for run in looks])
        self._connection.executemany(
            "INSERT INTO review_folders VALUES (?, ?)", [(run, look) for run, look in looks.items() if look]
        )

    def unannounced(self) -> list[tuple[str, Decision]]:
        """The decisions whose outbox rows nobody decided on yet, oldest first, each with its file's digest."""
        rows = self._connection.execute(f"SELECT digest, {_COLUMNS} FROM decisions WHERE NOT announced ORDER BY number")
        return [(digest, _decision(row)) for digest, *row in rows]

    def mark_announced(self) -> None:
        """Note that all of them were decided on, inside the caller's transaction."""
        self._connection.execute("UPDATE decisions SET announced = 1 WHERE NOT announced")


def _decision(row: Sequence[Any]) -> Decision:
    decision = Decision._make(row)
    return decision._replace(
        verb=Verb(decision.verb),
        override=bool(decision.override),
        classification=Classification(decision.classification),
    )
