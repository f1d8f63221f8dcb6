"""The table of decisions, made from the archive's `reviews/`.

The rule: it holds what the files say, and whether each was announced, which nobody else knows.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from modelwarden.gate.assessment import Classification
from modelwarden.gate.decision import Decision, Verb
from modelwarden.state.catalog import Connected

_COLUMNS: Final = ", ".join(Decision._fields)
_MARKS: Final = ", ".join("?" * (len(Decision._fields) + 2))


class Decided:
    """The table `decisions`."""

    def __init__(self, database: Connected) -> None:
        self._connection = database.connection

    def digests(self) -> set[str]:
        """The files that are known, by the sha256 of their bytes."""
        return {digest for (digest,) in self._connection.execute("SELECT digest FROM decisions")}

    def keep(self, files: Iterable[tuple[str, Decision]], daemon_id: str) -> None:
        """Make the table hold these, by the sha256 of their files, and no others; inside the caller's transaction.

        What another state's owner decided is that one's to announce.
        """
        files = list(files)
        wanted = {digest for digest, _ in files}
        known = self.digests()
        self._connection.executemany("DELETE FROM decisions WHERE digest = ?", [(each,) for each in known - wanted])
        self._connection.executemany(
            f"INSERT INTO decisions (digest, {_COLUMNS}, announced) VALUES ({_MARKS})",
            [(digest, *each, each.daemon_id != daemon_id) for digest, each in files if digest not in known],
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
