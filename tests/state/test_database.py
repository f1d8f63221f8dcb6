"""The state file: one a state directory, all or nothing, and an error that says what to do where it can't be used."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modelwarden.errors import RetryLater, StopService
from modelwarden.state.database import STATE_FILE, Database

BORN = "2024-12-24T15:30:00Z"

OPENING_PROCESS = """
import sys
from modelwarden.state.database import Database
print("ready", flush=True)
sys.stdin.readline()
print(Database(sys.argv[1], "2024-12-24T15:30:00Z").daemon_id)
"""

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


def test_processes_that_make_the_file_at_once_agree_on_one(tmp_path: Path) -> None:
    """A daemon, its courier and commands may all start on a new machine in the same instant."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", OPENING_PROCESS, tmp_path / "state"],
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
    answers = [process.communicate() for process in processes]

    assert [errors for _, errors in answers if errors] == []
    assert len({identity for identity, _ in answers}) == 1


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
