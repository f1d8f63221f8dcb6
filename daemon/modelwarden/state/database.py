"""The SQLite file: opening it, its tables, its transactions.

The rule: everything in it is derived from the archive or concerns this host alone; it is never the only copy of a
run, so losing it loses no more than the memory of what was announced. A local disk only: SQLite's write-ahead log
needs shared memory.
"""

import errno
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from modelwarden import durable
from modelwarden.errors import RetryLater, StopService, StorageSuspect
from modelwarden.state.packing import packed_columns

STATE_FILE: Final = "modelwarden.sqlite"
SCHEMA: Final = 6
BUSY_SECONDS: Final = 30.0
"""How long a transaction waits for another process's; the courier's and the daemon's take milliseconds."""
DAMAGED_HINT: Final = "move it away: it is made again from the archive, nothing old is sent"
"""What to do about a state file that is damaged."""

_TABLES: Final = """
CREATE TABLE identity (daemon_id TEXT NOT NULL, born_at TEXT NOT NULL);

-- The ledger: which files were dealt with, so that a scan need not read them again.
CREATE TABLE files (
    path BLOB PRIMARY KEY,
    figures TEXT NOT NULL,  -- device:inode:size:mtime:ctime, as text: some need more than 63 bits
    sha256 TEXT NOT NULL, run TEXT, reason TEXT
) WITHOUT ROWID;
CREATE TABLE rejections (identity TEXT PRIMARY KEY, at TEXT NOT NULL, path TEXT NOT NULL, reason TEXT NOT NULL)
WITHOUT ROWID;

-- The catalog: the archive's runs and assessments, to ask of. `run` is gate.timestamp.run_key.
CREATE TABLE policies (id TEXT PRIMARY KEY, thresholds TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, timestamp TEXT NOT NULL, run_name TEXT, archived_at TEXT NOT NULL,
    archived_by TEXT NOT NULL, daemon_id TEXT NOT NULL, source TEXT NOT NULL, source_size INTEGER NOT NULL,
    source_mtime TEXT, sha256 TEXT NOT NULL, reward_scale REAL, policy TEXT NOT NULL,
    approved_count INTEGER NOT NULL, review_count INTEGER NOT NULL, dropped_count INTEGER NOT NULL,
    announced INTEGER NOT NULL  -- whether its outbox rows were decided on
);
CREATE INDEX runs_unannounced ON runs (run) WHERE NOT announced;
CREATE TABLE assessments (
    run INTEGER NOT NULL, position INTEGER NOT NULL, symbol TEXT NOT NULL,
    classification INTEGER NOT NULL, flags INTEGER NOT NULL, best_idx INTEGER, checkpoint_update,
    peak REAL, decline REAL, largest_fall REAL, fell_from REAL,
    fitness REAL, profit_factor REAL, consistency REAL, max_drawdown REAL,
    PRIMARY KEY (run, position)
) WITHOUT ROWID;
CREATE INDEX assessments_by_symbol ON assessments (symbol, run);

-- The outbox: messages owed, one row an event and destination. `run` or `payload` says what about.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY, event TEXT NOT NULL, destination TEXT NOT NULL,
    kind TEXT NOT NULL, run INTEGER, payload TEXT,
    status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, repeated INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL, next_at REAL NOT NULL, deadline REAL NOT NULL, last_error TEXT,
    UNIQUE (event, destination)
);
CREATE INDEX outbox_due ON outbox (status, next_at);
"""


_CHANGES: Final = {
    # From the schema of that number to the next one.
    1: """
-- The destination that a message was owed to first, if another stands in for it.
ALTER TABLE outbox ADD COLUMN stands_for TEXT;
-- Destinations that are to be left in peace until a moment (seconds since the epoch).
CREATE TABLE mutes (destination TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
-- Watched folders from which summaries are expected: when the last one came, and whether its absence was announced.
CREATE TABLE expectations (path BLOB PRIMARY KEY, seen_at REAL NOT NULL, is_overdue INTEGER NOT NULL) WITHOUT ROWID
""",
    2: """
-- The outbox again: one row an event, destination and whom it stands in for ("" for nobody).
CREATE TABLE new_outbox (
    id INTEGER PRIMARY KEY, event TEXT NOT NULL, destination TEXT NOT NULL,
    kind TEXT NOT NULL, run INTEGER, payload TEXT,
    status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, repeated INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL, next_at REAL NOT NULL, deadline REAL NOT NULL, last_error TEXT,
    stands_for TEXT NOT NULL DEFAULT '',
    hurried INTEGER NOT NULL DEFAULT 0,  -- whether a person asked to try it at once
    ended_at REAL,  -- when it was delivered or suppressed
    UNIQUE (event, destination, stands_for)
);
INSERT INTO new_outbox SELECT id, event, destination, kind, run, payload, status, attempts, repeated, created_at,
    next_at, deadline, last_error, ifnull(stands_for, ''), 0,
    CASE WHEN status IN ('delivered', 'suppressed') THEN created_at END FROM outbox;
DROP TABLE outbox;
ALTER TABLE new_outbox RENAME TO outbox;
CREATE INDEX outbox_standing ON outbox (status, destination, id, next_at);
CREATE INDEX outbox_hurried ON outbox (destination) WHERE hurried;
CREATE INDEX outbox_ended ON outbox (ended_at) WHERE ended_at IS NOT NULL;
-- Events that were announced and of which the outbox forgot the rows: they are never announced again.
CREATE TABLE forgotten (event TEXT PRIMARY KEY) WITHOUT ROWID;
-- Destinations that fail: since when, and whether the others were told.
CREATE TABLE troubles (destination TEXT PRIMARY KEY, since REAL NOT NULL, is_told INTEGER NOT NULL) WITHOUT ROWID;
-- For the question which run was archived last.
CREATE INDEX runs_by_archived_at ON runs (archived_at);
-- The id of the archive that this state is about (NULL before one was seen).
ALTER TABLE identity ADD COLUMN archive_id TEXT;
-- Runs that were in the archive and are not: what they were, and whether their messages were decided on.
CREATE TABLE missing (
    run INTEGER PRIMARY KEY, timestamp TEXT NOT NULL, sha256 TEXT NOT NULL, source TEXT NOT NULL,
    announced INTEGER NOT NULL
);
CREATE INDEX missing_by_bytes ON missing (sha256);
-- Of a model, new: how many points its history has, the last checkpoint, the figures at the recommended one, what the
-- summary says twice and differently (a JSON list), NULL in runs that were recorded before these were. The figures,
-- one a gate of the run's policy, in one column (state.packing), and others, that no gate names, as a JSON object.
CREATE TABLE new_assessments (
    run INTEGER NOT NULL, position INTEGER NOT NULL, symbol TEXT NOT NULL,
    classification INTEGER NOT NULL, flags INTEGER NOT NULL, best_idx INTEGER, checkpoint_update,
    peak REAL, decline REAL, largest_fall REAL, fell_from REAL,
    points INTEGER, last_checkpoint, at_checkpoint, contradictions TEXT,
    figures NOT NULL, others TEXT,
    PRIMARY KEY (run, position)
) WITHOUT ROWID;
INSERT INTO new_assessments SELECT run, position, symbol, classification, flags, best_idx, checkpoint_update,
    peak, decline, largest_fall, fell_from, NULL, NULL, NULL, NULL,
    packed_figures(fitness, profit_factor, consistency, max_drawdown), NULL FROM assessments;
DROP TABLE assessments;
ALTER TABLE new_assessments RENAME TO assessments;
CREATE INDEX assessments_by_symbol ON assessments (symbol, run)
""",
    3: """
-- A run that the archive no longer has stays for as long as a message about it is owed: in the table, not in the view.
ALTER TABLE runs RENAME TO all_runs;
ALTER TABLE all_runs ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_removed ON all_runs (run) WHERE removed;
CREATE VIEW runs AS SELECT * FROM all_runs WHERE NOT removed;
-- How the archive looked when the catalog had all of it: while it looks so, who asks need not look through its folders.
ALTER TABLE identity ADD COLUMN looked TEXT
""",
    4: """
-- Of a run whose file a format read: by which, what the trainer's bytes are called, and which run it supersedes.
DROP VIEW runs;
ALTER TABLE all_runs ADD COLUMN format TEXT;
ALTER TABLE all_runs ADD COLUMN original TEXT;
ALTER TABLE all_runs ADD COLUMN supersedes TEXT;
CREATE INDEX runs_superseding ON all_runs (run) WHERE supersedes IS NOT NULL;
CREATE VIEW runs AS SELECT * FROM all_runs WHERE NOT removed;
-- What people decided: the files of reviews/, and whether their messages were decided on.
CREATE TABLE decisions (
    digest TEXT PRIMARY KEY, number INTEGER NOT NULL, run TEXT NOT NULL, sha256 TEXT NOT NULL, symbol TEXT NOT NULL,
    verb TEXT NOT NULL, override INTEGER NOT NULL, reason TEXT NOT NULL, by TEXT NOT NULL, decided_at TEXT NOT NULL,
    host TEXT NOT NULL, daemon_id TEXT NOT NULL, policy TEXT NOT NULL, classification TEXT NOT NULL, checkpoint,
    previous TEXT NOT NULL, announced INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX decisions_by_model ON decisions (sha256, symbol, number);
-- Runs that were removed on purpose: their files stay dealt with.
CREATE TABLE pruned (run TEXT PRIMARY KEY, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX pruned_by_bytes ON pruned (sha256);
-- What is in force about a model: the last decision, unless it withdraws the one before.
CREATE VIEW reviews AS SELECT * FROM decisions AS last WHERE verb <> 'withdraw' AND number = (
    SELECT max(number) FROM decisions WHERE sha256 = last.sha256 AND symbol = last.symbol);
-- The models that may be deployed, and whether a person says so.
CREATE VIEW approvals AS SELECT runs.run AS key, runs.timestamp AS run, assessments.symbol,
    ifnull(reviews.verb = 'approve', 0) AS reviewed, reviews.by, reviews.reason, reviews.decided_at
    FROM runs JOIN assessments ON assessments.run = runs.run
    LEFT JOIN reviews ON reviews.sha256 = runs.sha256 AND reviews.symbol = assessments.symbol
    WHERE ifnull(reviews.verb = 'approve', assessments.classification = 0)
""",
    5: """
-- Runs that were removed on purpose, by their bytes: what the archive's own record says, for who compares.
CREATE TABLE new_pruned (sha256 TEXT PRIMARY KEY, run TEXT NOT NULL) WITHOUT ROWID;
INSERT OR REPLACE INTO new_pruned SELECT sha256, run FROM pruned;
DROP TABLE pruned;
ALTER TABLE new_pruned RENAME TO pruned;
-- Decisions that were in the archive and are not there as they were: this state is their witness.
CREATE TABLE lost_decisions (digest TEXT PRIMARY KEY, number INTEGER NOT NULL, run TEXT NOT NULL) WITHOUT ROWID;
-- How each folder of reviews/ looked when `decisions` had all of it: one that looks so need not be read again.
CREATE TABLE review_folders (run TEXT PRIMARY KEY, look TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX decisions_by_run ON decisions (run);
CREATE INDEX decisions_by_number ON decisions (number);
CREATE INDEX decisions_unannounced ON decisions (number) WHERE NOT announced
""",
}


PAGE_BYTES: Final = 1024
"""Of a new state file. A run's models go to as many places of the index by symbol, and each place written to is a
page in the log: with SQLite's 4096 bytes a lone run of 50 models writes 320 KB there, with these 105 KB."""

LOG_PAGES: Final = 4096
"""Of the log, before it is folded into the file: as many bytes as SQLite's own 1000 of its larger pages. Each time
costs two syncs, and a page that many runs write to is written once a time."""

LITTLE_ROOM: Final = 1 << 20
"""Bytes. With less left, what SQLite calls an I/O error is taken for a disk that is full."""

_MAKE_ROOM: Final = "make room on the disk"


class Database:
    """An open state file. One thread uses it; other processes may have it open too.

    Args:
        state_dir: its folder; made if missing, readable by the owner alone (it may hold what errors said).
        born_at: the moment, ISO 8601, that a new file records as its birth.

    Attributes:
        connection: for the ledger, the catalog and the outbox.
        daemon_id: eight hex digits that name this state file; a run records whose it is.
        born_at: when the file was made.

    Raises:
        StopService: the file is damaged, of a later version, or can't be opened.
    """

    def __init__(self, state_dir: str, born_at: str) -> None:
        self.path = os.path.join(state_dir, STATE_FILE)
        durable.make_folder(state_dir, 0o700)
        try:
            self.connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                self._prepare(born_at)
                self._file = os.stat(self.path)
            except BaseException:
                self.connection.close()
                raise
        except (sqlite3.Error, UnicodeError, OSError) as error:
            if not os.access(state_dir, os.W_OK):
                hint = durable.hint_for(errno.EROFS) if _is_read_only(state_dir) else "run this as the service's user"
                raise StopService(f"no right to write there ({error})", where=state_dir, hint=hint) from error
            hint = self._lack_of_room(error) or f"if it is damaged, {DAMAGED_HINT}"
            raise StopService(f"the state file can't be used ({error})", where=self.path, hint=hint) from error

    def close(self) -> None:
        """Close the file; the write-ahead log is folded in if nobody else has it open."""
        self.connection.close()

    def is_cut_off(self) -> bool:
        """Whether another file has the name by now: what is written here nobody else sees, nor this what others write.

        A file that is gone, or is on another disk, says nothing: its disk may be away.
        """
        with suppress(OSError):
            now = os.stat(self.path)
            return now.st_dev == self._file.st_dev and now.st_ino != self._file.st_ino
        return False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on disk when the block ends without an exception.

        Raises:
            RetryLater: the disk is full, or another process kept the file busy.
        """
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:  # SQLite itself rolls back if the disk is full
                    connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            what = f"the state file refused ({error})"
            if (hint := self._lack_of_room(error)) or not error.sqlite_errorname.startswith("SQLITE_IOERR"):
                hint = hint or "give the service's user the right to write there; `fuser` names who else has it open"
                raise RetryLater(what, where=self.path, hint=hint) from error
            hint = "storage suspect: look at the kernel log and the disk's health"
            raise StorageSuspect(what, where=self.path, hint=hint) from error

    def archive_id(self) -> str | None:
        """The id of the archive that this state is about, as of now; None before one was seen."""
        (identity,) = self.connection.execute("SELECT archive_id FROM identity").fetchone()
        return None if identity is None else str(identity)

    def remember_archive(self, identity: str) -> None:
        """From now on this state is about that archive. Raises RetryLater if the state file refuses."""
        with self.transaction() as connection:
            connection.execute("UPDATE identity SET archive_id = ?", (identity,))

    def note_look(self, look: str | None) -> None:
        """Inside a transaction: the catalog has all of an archive that looks so; None: it may lack some of it."""
        self.connection.execute("UPDATE identity SET looked = ?", (look,))

    def _lack_of_room(self, error: Exception) -> str:
        """What to do if a full disk is the reason, else "": SQLite calls some of what has no room an I/O error."""
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_FULL":
            return _MAKE_ROOM
        if name.startswith("SQLITE_IOERR"):
            with suppress(OSError):
                status = os.statvfs(os.path.dirname(self.path))
                if status.f_bavail * status.f_frsize < LITTLE_ROOM:
                    return _MAKE_ROOM
        return ""

    def _prepare(self, born_at: str) -> None:
        connection = self.connection
        if self._schema() == 0:
            # Who changes the journal's mode gets "database is locked" at once if another does the same.
            from filelock import FileLock  # noqa: PLC0415 - for who writes; who asks does not wait for it

            with FileLock(f"{self.path}.lock", timeout=BUSY_SECONDS, fallback_to_soft=False):
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA journal_mode = WAL")
                self._make_tables(born_at)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        if self._schema() in _CHANGES:
            self._change_tables()
        if (schema := self._schema()) != SCHEMA:
            raise StopService(
                f"written by another version (schema {schema}, this one knows {SCHEMA})",
                where=self.path,
                hint="use that version, or move the file away: it is made again from the archive",
            )
        self.daemon_id, self.born_at = connection.execute("SELECT daemon_id, born_at FROM identity").fetchone()

    def _schema(self) -> int:
        (schema,) = self.connection.execute("PRAGMA user_version").fetchone()
        return int(schema)

    def _make_tables(self, born_at: str) -> None:
        with self.transaction() as connection:
            if self._schema() == 0:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute("INSERT INTO identity VALUES (?, ?)", (uuid.uuid4().hex[:8], born_at))
                connection.execute("PRAGMA user_version = 1")

    def _change_tables(self) -> None:
        """Bring the tables of an earlier version, or of a new file, up to this one's."""
        self.connection.create_function("packed_figures", -1, packed_columns, deterministic=True)
        with self.transaction() as connection:
            while (schema := self._schema()) in _CHANGES:
                for statement in _CHANGES[schema].split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {schema + 1}")


def _is_read_only(folder: str) -> bool:
    try:
        return os.statvfs(folder).f_flag & os.ST_RDONLY != 0
    except OSError:
        return False
