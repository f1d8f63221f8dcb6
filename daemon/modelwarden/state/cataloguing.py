"""The catalog as its one writer has it: runs go in and out, inside the caller's transaction.

The rule: it holds only what model_assessments.json holds, so it can be made again from the archive, row for row.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from modelwarden.gate.run import RunRecord
from modelwarden.gate.timestamp import keys_of_removed, run_key
from modelwarden.state.catalog import RUN_COLUMNS, RUN_FIELDS, Catalog
from modelwarden.state.rows import MODEL_COLUMNS, ModelRow

_AT_SOURCE: Final = RunRecord._fields.index("source")
_AT_POLICY: Final = RunRecord._fields.index("policy")
_RUN_MARKS: Final = ", ".join("?" * len(RUN_FIELDS))
_MODEL_MARKS: Final = ", ".join("?" * (MODEL_COLUMNS.count(",") + 1))


class WritableCatalog(Catalog):
    """The catalog, to be asked and to be changed. What raises is SQLite's, and the transaction's to tell."""

    def add(self, run: RunRecord, models: Sequence[ModelRow], *, announced: bool) -> None:
        """Add a run, inside the caller's transaction. A run that is there already is replaced.

        Args:
            run: its record.
            models: a row a model, as `state.rows.model_rows` makes them.
            announced: whether its outbox rows are decided on in the same transaction.
        """
        key = run_key(run.timestamp)
        policy = run.policy
        if self._connection.execute("SELECT 1 FROM policies WHERE id = ?", (policy.id,)).fetchone() is None:
            written = json.dumps(policy.as_json())
            self._connection.execute("INSERT INTO policies VALUES (?, ?)", (policy.id, written))
        self._connection.execute("DELETE FROM missing WHERE sha256 = ?", (run.sha256,))
        self._connection.execute("DELETE FROM pruned WHERE sha256 = ?", (run.sha256,))
        self._connection.execute("DELETE FROM assessments WHERE run = ?", (key,))
        self._connection.execute(
            f"INSERT OR REPLACE INTO all_runs (run, {RUN_COLUMNS}, announced) VALUES (?, {_RUN_MARKS}, ?)",
            (
                key,
                *run[:_AT_SOURCE],
                *run.source,
                *run[_AT_SOURCE + 1 : _AT_POLICY],
                policy.id,
                *run[_AT_POLICY + 1 :],
                announced,
            ),
        )
        self._connection.executemany(
            f"INSERT INTO assessments (run, position, {MODEL_COLUMNS}) VALUES (?, ?, {_MODEL_MARKS})",
            [(key, *model) for model in models],
        )

    def remove(self, name: str, *, keeps: bool = False) -> int | None:
        """Take a run out that the archive no longer has, inside the caller's transaction: it is missing.

        Args:
            name: the run's.
            keeps: whether its rows are to stay, for a message about it is owed; until `let_go`.

        Returns:
            The key that the rows have now if they stay, else None. The run's name, and the key of it, may be another
            run's by and by.
        """
        key = run_key(name)
        self._connection.execute(
            "INSERT OR REPLACE INTO missing SELECT run, timestamp, sha256, source, announced FROM runs WHERE run = ?",
            (key,),
        )
        if not keeps:
            self.let_go(key)
            return None
        first, last = keys_of_removed(key)
        (before,) = self._connection.execute(
            "SELECT max(run) FROM all_runs WHERE run BETWEEN ? AND ?", (first, last)
        ).fetchone()
        kept = first if before is None else before + 1
        self._connection.execute("UPDATE all_runs SET run = ?, removed = 1 WHERE run = ?", (kept, key))
        self._connection.execute("UPDATE assessments SET run = ? WHERE run = ?", (kept, key))
        return int(kept)

    def let_go(self, key: int) -> None:
        """Drop the rows of a run, inside the caller's transaction."""
        self._connection.execute("DELETE FROM assessments WHERE run = ?", (key,))
        self._connection.execute("DELETE FROM all_runs WHERE run = ?", (key,))

    def mark_pruned(self, runs: Iterable[tuple[str, str]]) -> None:
        """Note that runs were removed on purpose, inside the caller's transaction: nobody is to miss them.

        Args:
            runs: the sha256 and the name of each.
        """
        runs = list(runs)
        self._connection.executemany("DELETE FROM missing WHERE sha256 = ?", [(sha256,) for sha256, _ in runs])
        self._connection.executemany("INSERT OR REPLACE INTO pruned VALUES (?, ?)", runs)

    def forget_pruned(self, sha256s: Iterable[str]) -> None:
        """Let go of these, inside the caller's transaction."""
        self._connection.executemany("DELETE FROM pruned WHERE sha256 = ?", [(each,) for each in sha256s])

    def forget_missing(self) -> int:
        """Let go of all runs that are missing, inside the caller's transaction; return how many."""
        return self._connection.execute("DELETE FROM missing").rowcount

    def mark_announced(self) -> None:
        """Note that all of them were decided on, inside the caller's transaction."""
        self._connection.execute("UPDATE all_runs SET announced = 1 WHERE NOT announced")
