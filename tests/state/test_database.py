"""The state file: one a state directory, all or nothing, and an error that says what to do where it can't be used."""

import math
import os
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modelwarden.errors import RetryLater, StopService
from modelwarden.state.database import SCHEMA, STATE_FILE, Database
from modelwarden.state.outbox import Outbox

BORN = "2024-12-24T15:30:00Z"

OPENING_PROCESS = """
import sys
from modelwarden.state.database import Database
print("ready", flush=True)
sys.stdin.readline()
print(Database(sys.argv[1], "2024-12-24T15:30:00Z").daemon_id)
"""

SCHEMA_1 = """
CREATE TABLE identity (daemon_id TEXT NOT NULL, born_at TEXT NOT NULL);
CREATE TABLE files (
    path BLOB PRIMARY KEY, figures TEXT NOT NULL, sha256 TEXT NOT NULL, run TEXT, reason TEXT
) WITHOUT ROWID;
CREATE TABLE rejections (identity TEXT PRIMARY KEY, at TEXT NOT NULL, path TEXT NOT NULL, reason TEXT NOT NULL)
WITHOUT ROWID;
CREATE TABLE policies (id TEXT PRIMARY KEY, thresholds TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, timestamp TEXT NOT NULL, run_name TEXT, archived_at TEXT NOT NULL,
    archived_by TEXT NOT NULL, daemon_id TEXT NOT NULL, source TEXT NOT NULL, source_size INTEGER NOT NULL,
    source_mtime TEXT, sha256 TEXT NOT NULL, reward_scale REAL, policy TEXT NOT NULL,
    approved_count INTEGER NOT NULL, review_count INTEGER NOT NULL, dropped_count INTEGER NOT NULL,
    announced INTEGER NOT NULL
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
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY, event TEXT NOT NULL, destination TEXT NOT NULL,
    kind TEXT NOT NULL, run INTEGER, payload TEXT,
    status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, repeated INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL, next_at REAL NOT NULL, deadline REAL NOT NULL, last_error TEXT,
    UNIQUE (event, destination)
);
CREATE INDEX outbox_due ON outbox (status, next_at);
INSERT INTO identity VALUES ('0f1e2d3c', '2024-01-02T03:04:05Z');
INSERT INTO files VALUES (x'2f6f75742fff2e6a736f6e', '1:2:3:4:5', 'ab', '20241224_153000', NULL);
INSERT INTO rejections VALUES ('cd', '2024-12-24T15:30:05Z', '/out/bad.json', 'models: missing');
INSERT INTO policies VALUES ('24e76465', '{"approved_min_fitness": 0.7}');
INSERT INTO runs VALUES (20241224153000, '20241224_153000', 'Nachtlauf', '2024-12-24T15:30:05Z', 'trainer-7',
    '0f1e2d3c', '/out/a.json', 1, NULL, 'ab', 1.5, '24e76465', 1, 0, 0, 1);
INSERT INTO assessments VALUES (20241224153000, 0, 'ROCKET🚀', 0, 3, 4, 250, .9, .01, .02, .9, .91, 'inf', .9, .04);
INSERT INTO outbox VALUES
    (7, 'run:ab', 'team', 'RUN', 20241224153000, NULL, 'pending', 3, 1, 1.5, 2.5, 3.5, 'no answer within 30 s'),
    (9, 'run:ab', 'mail', 'RUN', 20241224153000, NULL, 'delivered', 1, 0, 1.5, 1.5, 3.5, NULL),
    (12, 'rejected:cd', 'team', 'REJECTED', NULL, '/out/bad.json', 'dead', 9, 0, 1.5, 2.5, 3.5, 'refused');
PRAGMA user_version = 1;
"""
"""A state file as the first version made it, with something in every table."""

WRITING_PROCESS = """
import os, signal, sys
from modelwarden.state.database import Database
database = Database(sys.argv[1], "2024-12-24T15:30:00Z")
for number in range(3):
    with database.transaction() as connection:
        connection.execute("INSERT INTO rejections VALUES (?, '', '', '')", (f"committed {number}",))
with database.transaction() as connection:
    connection.execute("INSERT INTO rejections VALUES ('begun', '', '', '')")
    os.kill(os.getpid(), signal.SIGKILL)
"""

DYING_PROCESS = """
import os, signal, sys
from modelwarden.state import database
changes = database._CHANGES[1] + "; SELECT die()"
database._CHANGES = {1: changes}
connect = database.sqlite3.connect
def connect_dying(*arguments, **named):
    connection = connect(*arguments, **named)
    connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return connection
database.sqlite3.connect = connect_dying
database.Database(sys.argv[1], "2024-12-24T15:30:00Z")
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new state file."""
    with closing(Database(str(tmp_path / "state"), BORN)) as opened:
        yield opened


def noted(database: Database) -> list[str]:
    """The identities of the rejections, a table as good as any."""
    return [identity for (identity,) in database.connection.execute("SELECT identity FROM rejections ORDER BY 1")]


def note(connection: sqlite3.Connection, identity: str) -> None:
    """Write a row."""
    connection.execute("INSERT INTO rejections VALUES (?, '', '', '')", (identity,))


def test_new_state_file_has_an_identity_and_a_birthday(database: Database) -> None:
    """Eight hex digits that a run can record, and the moment it was made."""
    assert len(database.daemon_id) == 8
    assert int(database.daemon_id, 16) >= 0
    assert database.born_at == BORN


def test_state_file_opened_again_is_the_same(tmp_path: Path, database: Database) -> None:
    """Identity and birthday belong to the file, not to the process."""
    with closing(Database(str(tmp_path / "state"), "2030-01-01T00:00:00Z")) as again:
        assert (again.daemon_id, again.born_at) == (database.daemon_id, BORN)


def test_two_state_files_have_two_identities(tmp_path: Path, database: Database) -> None:
    """Two hosts on one archive tell their runs apart."""
    with closing(Database(str(tmp_path / "other"), BORN)) as other:
        assert other.daemon_id != database.daemon_id


def test_state_directory_is_for_its_owner_alone(tmp_path: Path, database: Database) -> None:
    """It may hold what errors said: nobody else looks in."""
    assert os.path.dirname(database.path) == str(tmp_path / "state")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) & 0o077 == 0


def test_state_file_survives_a_power_cut_once_a_transaction_ends(database: Database) -> None:
    """Write-ahead log and full sync: a commit is on disk when it returns."""
    (journal,) = database.connection.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = database.connection.execute("PRAGMA synchronous").fetchone()

    assert (journal, synchronous) == ("wal", 2)


def test_state_file_whose_name_another_has_is_cut_off(tmp_path: Path, database: Database) -> None:
    """Who writes to it speaks to nobody; one that is merely gone, or whose disk is, is waited for."""
    file = Path(database.path)
    assert not database.is_cut_off()
    moved = file.rename(tmp_path / "moved away")
    assert not database.is_cut_off()
    file.write_bytes(moved.read_bytes())
    assert database.is_cut_off()


def test_transaction_that_ends_is_kept(tmp_path: Path, database: Database) -> None:
    """Another connection sees it."""
    with database.transaction() as connection:
        note(connection, "a")

    with closing(Database(str(tmp_path / "state"), BORN)) as other:
        assert noted(other) == ["a"]


def test_transaction_that_fails_leaves_nothing(database: Database) -> None:
    """All or nothing, and the next one begins clean."""

    def fail() -> None:
        with database.transaction() as connection:
            note(connection, "a")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with database.transaction() as connection:
        note(connection, "b")

    assert noted(database) == ["b"]


def note_much(database: Database) -> None:
    """A transaction of a megabyte."""
    with database.transaction() as connection:
        for number in range(10_000):
            note(connection, f"{number} {'x' * 100}")


def refused(database: Database) -> None:
    """A transaction that the file refuses."""
    with pytest.raises(RetryLater, match="the state file refused") as caught:
        note_much(database)
    assert caught.value.where == database.path


def test_transaction_beside_another_process_s_waits_and_then_says_so(tmp_path: Path, database: Database) -> None:
    """A file that stays busy is a reason to try again later, not an error of ours."""
    database.connection.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(tmp_path / "state" / STATE_FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused(database)
        other.execute("ROLLBACK")

    with database.transaction() as connection:
        note(connection, "later")
    assert noted(database) == ["later"]


def test_transaction_on_a_full_disk_leaves_nothing_and_the_next_succeeds(database: Database) -> None:
    """SQLite rolls back by itself where there is no room; the connection is of use as soon as there is."""
    (pages,) = database.connection.execute("PRAGMA page_count").fetchone()
    database.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    refused(database)
    assert noted(database) == []

    database.connection.execute("PRAGMA max_page_count = 1000000")
    with database.transaction() as connection:
        note(connection, "later")

    assert noted(database) == ["later"]


def test_process_killed_in_a_transaction_leaves_what_was_committed_before(tmp_path: Path) -> None:
    """The write-ahead log of the dead is taken over by who opens the file next."""
    process = subprocess.run([sys.executable, "-P", "-c", WRITING_PROCESS, tmp_path], check=False)
    assert process.returncode == -signal.SIGKILL

    with closing(Database(str(tmp_path), BORN)) as database:
        assert noted(database) == ["committed 0", "committed 1", "committed 2"]


def opened_at_once(folder: Path) -> list[tuple[str, str]]:
    """What four processes say that open the same state file at the same moment: identity and errors."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", OPENING_PROCESS, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate() for process in processes]


def test_processes_that_make_the_file_at_once_agree_on_one(tmp_path: Path) -> None:
    """A daemon, its courier and commands may all start on a new machine in the same instant."""
    answers = opened_at_once(tmp_path / "state")

    assert [errors for _, errors in answers if errors] == []
    assert len({identity for identity, _ in answers}) == 1


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A state directory with a file of schema 1, left by a process that had it in write-ahead mode."""
    folder = tmp_path / "state"
    folder.mkdir()
    with closing(sqlite3.connect(folder / STATE_FILE, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA_1)
    return folder


def content_of(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    with closing(sqlite3.connect(file)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}


def layout_of(file: Path) -> dict[str, object]:
    """What there is besides rows: tables with their columns, indices, the schema's number."""
    with closing(sqlite3.connect(file)) as connection:
        named = connection.execute("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
        columns = {
            name: connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
            for kind, name in named
            if kind == "table"
        }
        return {
            "named": sorted(named),
            "columns": columns,
            "schema": connection.execute("PRAGMA user_version").fetchone(),
        }


NEW_OR_CHANGED = {
    "outbox",
    "identity",
    "mutes",
    "expectations",
    "forgotten",
    "troubles",
    "missing",
    "decisions",
    "pruned",
    "lost_decisions",
    "review_folders",
}


def test_state_file_of_the_first_version_keeps_all_it_has(old: Path) -> None:
    """Row for row; what is new is empty, and the file knows of itself that it is of this version now."""
    before = content_of(old / STATE_FILE)
    assert all(before.values()), "every table has a row, so that none can be lost unseen"

    with closing(Database(str(old), BORN)) as database:
        assert (database.daemon_id, database.born_at) == ("0f1e2d3c", "2024-01-02T03:04:05Z")
        assert database.connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
        team = Outbox(database).due("team", 10.0)
        assert [(row.id, row.attempts, row.repeated, row.stands_for) for row in team] == [(7, 3, True, "")]

    after = content_of(old / STATE_FILE)
    assert after.pop("all_runs") == [(*row, 0, None, None, None) for row in before["runs"]]
    changed = {*NEW_OR_CHANGED, "assessments", "runs"}
    assert {name: rows for name, rows in after.items() if name not in changed} == {
        name: rows for name, rows in before.items() if name not in changed
    }
    (model,) = before["assessments"]
    *kept, fitness, _, consistency, drawdown = model
    figures = struct.pack("<4d", fitness, math.inf, consistency, drawdown)
    assert after["assessments"] == [(*kept, None, None, None, None, figures, None)]
    assert after["identity"] == [(*row, None, None) for row in before["identity"]]
    ended: dict[object, float | None] = {7: None, 9: 1.5, 12: None}
    assert after["outbox"] == [(*row, "", 0, ended[row[0]]) for row in before["outbox"]]
    assert all(after[name] == [] for name in NEW_OR_CHANGED - {"outbox", "identity"})


def test_state_file_that_was_brought_up_is_laid_out_as_a_new_one(old: Path, tmp_path: Path) -> None:
    """Whoever comes from the first version has what who starts with this one has."""
    with closing(Database(str(old), BORN)), closing(Database(str(tmp_path / "new"), BORN)):
        pass
    assert layout_of(old / STATE_FILE) == layout_of(tmp_path / "new" / STATE_FILE)


def test_state_file_that_was_brought_up_is_changed_by_no_second_opening(old: Path) -> None:
    """Byte for byte."""
    with closing(Database(str(old), BORN)):
        pass
    before = (old / STATE_FILE).read_bytes()
    with closing(Database(str(old), BORN)):
        pass
    assert (old / STATE_FILE).read_bytes() == before


def test_processes_that_open_an_old_state_file_at_once_bring_it_up_once(old: Path) -> None:
    """After an upgrade the daemon and its courier start in the same instant."""
    before = content_of(old / STATE_FILE)
    answers = opened_at_once(old)
    assert [errors for _, errors in answers if errors] == []
    assert {identity for identity, _ in answers} == {"0f1e2d3c\n"}
    assert [row[:13] for row in content_of(old / STATE_FILE)["outbox"]] == before["outbox"]


def test_upgrade_of_a_state_file_that_dies_leaves_it_as_it_was(old: Path) -> None:
    """All or nothing; the next one does it."""
    before = content_of(old / STATE_FILE)
    process = subprocess.run([sys.executable, "-P", "-c", DYING_PROCESS, old], check=False)
    assert process.returncode == -signal.SIGKILL
    assert content_of(old / STATE_FILE) == before

    with closing(Database(str(old), BORN)) as database:
        assert Outbox(database).muted_until("team") == 0.0


def garbage(path: Path) -> None:
    """No SQLite file at all."""
    path.write_bytes(b"\0\xff garbage " * 1000)


def torn(path: Path) -> None:
    """A SQLite file that lost its middle."""
    with closing(Database(str(path.parent), BORN)):
        pass
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes(len(data) - 100))


def folder(path: Path) -> None:
    """A folder of that name."""
    path.mkdir()


@pytest.mark.parametrize("damage", [garbage, torn, folder])
def test_state_file_that_can_not_be_used_stops_with_the_remedy(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """The message names the file and says that moving it away loses nothing."""
    damage(tmp_path / STATE_FILE)

    with pytest.raises(StopService, match="the state file can't be used") as caught:
        Database(str(tmp_path), BORN)

    assert caught.value.where == str(tmp_path / STATE_FILE)
    assert "move it away" in caught.value.hint


def test_state_file_of_a_later_version_is_left_as_it_is(tmp_path: Path) -> None:
    """What this version does not know it does not touch; the message names both versions."""
    with closing(Database(str(tmp_path), BORN)) as database:
        database.connection.execute("PRAGMA user_version = 99")
    before = (tmp_path / STATE_FILE).read_bytes()

    with pytest.raises(StopService, match=r"schema 99, this one knows \d+"):
        Database(str(tmp_path), BORN)

    assert (tmp_path / STATE_FILE).read_bytes() == before
