"""Folders from which summaries are expected: the wait begins once, and what is told is recorded with it."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modelwarden.state.database import Database
from modelwarden.state.expectations import Expectation, Expectations

BORN = "2024-12-24T15:30:00Z"
FOLDER = os.fsdecode(b"/out/\xff and \xc3\xa9")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new state file."""
    with closing(Database(str(tmp_path), BORN)) as opened:
        yield opened


def test_folder_is_expected_from_the_moment_it_is_first_watched(database: Database, tmp_path: Path) -> None:
    """A restart does not begin the wait anew, whatever bytes the folder's name is made of."""
    assert Expectations(database).of(FOLDER, 1000.5) == Expectation(1000.5, is_overdue=False)

    with closing(Database(str(tmp_path), BORN)) as again:
        assert Expectations(again).of(FOLDER, 9000.0) == Expectation(1000.5, is_overdue=False)
        assert Expectations(again).of("/another", 9000.0) == Expectation(9000.0, is_overdue=False)


def test_silence_is_noted_only_with_its_announcement(database: Database) -> None:
    """One transaction: where the message can't be recorded, the folder is not taken for announced."""
    expectations = Expectations(database)
    before = expectations.of(FOLDER, 1000.0)

    def refuse() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        expectations.note(FOLDER, Expectation(1000.0, is_overdue=True), refuse)
    assert expectations.of(FOLDER, 2000.0) == before

    announced: list[bool] = []
    expectations.note(FOLDER, Expectation(1000.0, is_overdue=True), lambda: announced.append(True))
    assert expectations.of(FOLDER, 2000.0).is_overdue
    assert announced == [True]
