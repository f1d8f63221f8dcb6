"""Who only asks reads a state file as it is, and leaves no trace of having been there."""

from contextlib import closing
from pathlib import Path

import pytest

from invariants import snapshot
from modelwarden.state.database import STATE_FILE, Database
from modelwarden.state.reading import reading

BORN = "2024-12-24T15:30:00Z"
IDENTITY = "0" * 32


@pytest.mark.parametrize("folder", ["state", "a state with % and ?", "\u00e9\U0001f680#"])
def test_state_at_rest_is_read_without_a_trace(tmp_path: Path, folder: str) -> None:
    """Nothing is made beside it, not even SQLite's log, whatever the folder is called."""
    with closing(Database(str(tmp_path / folder), BORN)) as database:
        database.remember_archive(IDENTITY)
    before = snapshot(tmp_path)

    with reading(str(tmp_path / folder)) as asked:
        assert asked is not None
        assert asked.archive_id() == IDENTITY

    assert snapshot(tmp_path) == before


def test_state_that_is_written_to_is_read_as_last_recorded(tmp_path: Path) -> None:
    """What a daemon at work has recorded is seen; what it has not is not, and is not waited for."""
    with closing(Database(str(tmp_path), BORN)) as database:
        database.remember_archive(IDENTITY)
        with database.transaction() as connection:
            connection.execute("UPDATE identity SET archive_id = 'unfinished'")
            with reading(str(tmp_path)) as asked:
                assert asked is not None
                assert asked.archive_id() == IDENTITY


@pytest.mark.parametrize("harm", ["missing", "damaged", "of another version", "empty"])
def test_state_that_can_not_be_read_is_as_good_as_none(tmp_path: Path, harm: str) -> None:
    """None, and the file stays what it was: the archive's folders say the same."""
    file = tmp_path / STATE_FILE
    with closing(Database(str(tmp_path), BORN)) as database:
        if harm == "of another version":
            database.connection.execute("PRAGMA user_version = 999")
    if harm == "missing":
        file.unlink()
    elif harm != "of another version":
        file.write_bytes(b"no database" * 1000 if harm == "damaged" else b"")
    before = snapshot(tmp_path)

    with reading(str(tmp_path)) as asked:
        assert asked is None

    assert snapshot(tmp_path) == before


def test_state_whose_writer_died_as_it_began_its_log_is_read_as_it_was(tmp_path: Path) -> None:
    """A log of nothing but its head, as a kill leaves it, holds nothing: the file has all, and nobody is waited for."""
    log, shared = tmp_path / f"{STATE_FILE}-wal", tmp_path / f"{STATE_FILE}-shm"
    with closing(Database(str(tmp_path), BORN)) as database:
        database.remember_archive(IDENTITY)
        head, memory = log.read_bytes()[:32], len(shared.read_bytes())
    log.write_bytes(head)
    shared.write_bytes(bytes(memory))

    with reading(str(tmp_path)) as asked:
        assert asked is not None
        assert asked.archive_id() == IDENTITY
