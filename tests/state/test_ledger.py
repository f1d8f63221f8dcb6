"""The ledger: a file is dealt with while its fingerprint is the same, whatever bytes its path is made of."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modelwarden.fingerprint import Fingerprint
from modelwarden.state.database import Database
from modelwarden.state.ledger import Dealt, Ledger

FIGURES = Fingerprint(66306, 1234, 5678, 1_735_054_200_123_456_789, 1_735_054_201_987_654_321)
PATHS = [
    "/out/summary.json",
    "/out/with blank\nand break.json",
    "/out/r\u00e9sum\u00e9.json",
    "/out/e\u0301.json",
    "/out/\udcff\udcfe.json",
    os.fsdecode(b"/out/\xc3\x28.json"),
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new state file."""
    with closing(Database(str(tmp_path), "2024-12-24T15:30:00Z")) as opened:
        yield opened


def archived(path: str, fingerprint: Fingerprint = FIGURES) -> Dealt:
    """A file that became a run."""
    return Dealt(path, fingerprint, "ab" * 32, "20241224_153000", None)


def rejected(path: str, fingerprint: Fingerprint = FIGURES) -> Dealt:
    """A file that was no summary."""
    return Dealt(path, fingerprint, "cd" * 32, None, "no models")


def record(database: Database, ledger: Ledger, *files: Dealt) -> None:
    """Record files as the pipeline does: in a transaction, and remembered after it."""
    with database.transaction():
        ledger.record(files)
    ledger.remember(files)


@pytest.mark.parametrize("path", PATHS)
def test_file_recorded_is_dealt_with_also_after_a_restart(database: Database, path: str) -> None:
    """Names on disk are bytes: whatever they are, the file is known again."""
    record(database, Ledger(database), archived(path))

    ledger = Ledger(database)

    assert ledger.is_dealt_with(path, FIGURES)
    assert list(ledger.paths()) == [path]


def test_paths_that_only_look_alike_are_different_files(database: Database) -> None:
    """No normalisation, no decoding that loses: every path is its own."""
    ledger = Ledger(database)

    record(database, ledger, *map(archived, PATHS))

    assert len(Ledger(database)) == len(ledger) == len(PATHS)


@pytest.mark.parametrize("figure", range(5), ids=["device", "inode", "size", "mtime", "ctime"])
def test_file_with_any_other_figure_is_not_dealt_with(database: Database, figure: int) -> None:
    """A rewrite that restores size and mtime still shows in the ctime."""
    ledger = Ledger(database)
    record(database, ledger, archived(PATHS[0]))
    changed = list(FIGURES)
    changed[figure] += 1
    device, inode, size, mtime, ctime = changed

    assert not ledger.is_dealt_with(PATHS[0], Fingerprint(device, inode, size, mtime, ctime))
    assert not Ledger(database).is_dealt_with(PATHS[0], Fingerprint(device, inode, size, mtime, ctime))


@pytest.mark.parametrize(
    "fingerprint",
    [
        (0, 0, 0, 0, 0),
        (66306, 1234, 0, -86_400_000_000_000, 1),
        (2**64 - 1, 1, 1, 1, 1),
        (1, 2**64 - 2, 1, 1, 1),
        (1, 1, 1, 13_569_465_600_000_000_000, 1),
    ],
    ids=["zeros", "before 1970", "device of 64 bits", "inode of 64 bits", "mtime in the year 2400"],
)
def test_figures_of_any_file_system_are_kept_exactly(database: Database, fingerprint: Fingerprint) -> None:
    """Some file systems number inodes with all 64 bits, and a file's time may be any."""
    ledger = Ledger(database)

    record(database, ledger, archived(PATHS[0], fingerprint))

    assert Ledger(database).is_dealt_with(PATHS[0], fingerprint)


def test_file_recorded_again_has_its_new_figures(database: Database) -> None:
    """The last state counts, and there is one row a path."""
    ledger = Ledger(database)
    newer = FIGURES._replace(size=9)
    record(database, ledger, archived(PATHS[0]))

    record(database, ledger, rejected(PATHS[0], newer))

    for each in (ledger, Ledger(database)):
        assert not each.is_dealt_with(PATHS[0], FIGURES)
        assert each.is_dealt_with(PATHS[0], newer)
        assert len(each) == 1


def test_only_a_file_that_became_a_run_was_archived(database: Database) -> None:
    """What was rejected is dealt with and must never be deleted as archived."""
    ledger = Ledger(database)
    record(database, ledger, archived("/out/a"), rejected("/out/b"))

    for each in (ledger, Ledger(database)):
        assert [each.run(path) is not None for path in ("/out/a", "/out/b", "/out/c")] == [True, False, False]


def test_device_of_a_file_is_known_for_what_is_in_the_ledger(database: Database) -> None:
    """An unmounted disk is told from deleted files by the device."""
    ledger = Ledger(database)
    record(database, ledger, archived(PATHS[0]))

    assert (ledger.device(PATHS[0]), ledger.device("/out/other")) == (FIGURES[0], None)


@pytest.mark.parametrize("path", PATHS)
def test_file_forgotten_is_not_known_any_more(database: Database, path: str) -> None:
    """A file that is gone leaves no row, and the others stay."""
    ledger = Ledger(database)
    record(database, ledger, archived(path), archived("/out/stays"))

    with database.transaction():
        ledger.forget([path, "/out/was never there"])

    for each in (ledger, Ledger(database)):
        assert list(each.paths()) == ["/out/stays"]


def test_file_whose_transaction_failed_is_not_known(database: Database) -> None:
    """Memory follows the disk: what was not committed was not dealt with."""
    ledger = Ledger(database)

    def fail() -> None:
        with database.transaction():
            ledger.record([archived(PATHS[0])])
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert not ledger.is_dealt_with(PATHS[0], FIGURES)
    assert len(Ledger(database)) == 0


def test_rejected_bytes_are_new_only_once(database: Database) -> None:
    """The same bytes under any path, today or after a restart, are announced once."""
    with database.transaction():
        first = Ledger(database).reject("0123456789abcdef", "2024-12-24T15:30:00Z", "/out/a", "no models")
    with database.transaction():
        second = Ledger(database).reject("0123456789abcdef", "2024-12-25T15:30:00Z", "/out/b", "no models")
        other = Ledger(database).reject("fedcba9876543210", "2024-12-25T15:30:00Z", "/out/c", "no models")

    assert (first, second, other) == (True, False, True)
