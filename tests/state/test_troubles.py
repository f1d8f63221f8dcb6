"""Destinations that fail: what is known of them outlives a restart, and goes with the send that it came of."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modelwarden.state.database import Database
from modelwarden.state.troubles import Trouble, Troubles

BORN = "2024-12-24T15:30:00Z"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new state file."""
    with closing(Database(str(tmp_path), BORN)) as opened:
        yield opened


def test_trouble_outlives_a_restart(database: Database, tmp_path: Path) -> None:
    """Since when, to the fraction, and whether it was told; the last word counts, and nobody else is in trouble."""
    with database.transaction():
        Troubles(database).note("team", Trouble(1000.25, is_told=False))
    with database.transaction():
        Troubles(database).note("team", Trouble(1000.25, is_told=True))

    with closing(Database(str(tmp_path), BORN)) as again:
        assert Troubles(again).of("team") == Trouble(1000.25, is_told=True)
        assert Troubles(again).of("desk") is None


def test_trouble_of_a_send_that_was_not_recorded_is_not_known(database: Database) -> None:
    """Both are one transaction: if that fails, the trouble neither began nor ended."""
    troubles = Troubles(database)
    with database.transaction():
        troubles.note("old", Trouble(1.0, is_told=True))

    def fail() -> None:
        with database.transaction():
            troubles.note("new", Trouble(2.0, is_told=False))
            troubles.end("old")
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert troubles.of("new") is None
    assert troubles.of("old") == Trouble(1.0, is_told=True)


def test_destination_not_configured_any_more_is_in_no_trouble(database: Database) -> None:
    """The others' troubles stay as they are; a destination that comes back begins anew."""
    troubles = Troubles(database)
    with database.transaction():
        for name in ("team", "desk", "mail"):
            troubles.note(name, Trouble(1.0, is_told=True))

    troubles.keep(["desk", "another"])

    assert [troubles.of(name) for name in ("team", "desk", "mail")] == [None, Trouble(1.0, is_told=True), None]
