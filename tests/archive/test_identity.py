"""Which archive a folder holds: told by the id in a small file, never by the path."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelwarden.archive.identity import (
    DAMAGED,
    IDENTITY_FILE,
    difference,
    has_identity,
    identity_file,
    identity_in,
    new_id,
    stranger,
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """The folder tmp_path, open."""
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_id_written_is_read_back(folder: int, tmp_path: Path) -> None:
    """What the identity file says is the id that it was made for."""
    identity = new_id()
    (tmp_path / IDENTITY_FILE).write_bytes(identity_file(identity))

    assert identity_in(folder, str(tmp_path)) == identity
    assert has_identity(str(tmp_path))


def test_new_ids_differ() -> None:
    """No two archives have the same id."""
    assert len({new_id() for _ in range(100)}) == 100


def test_folder_without_the_file_has_no_id(folder: int, tmp_path: Path) -> None:
    """An empty folder, such as one whose disk is not mounted, is no archive's, and not a damaged one either."""
    assert identity_in(folder, str(tmp_path)) is None
    assert not has_identity(str(tmp_path))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"archive_id": 7}',
        b'{"archive_id": ""}',
        b'{"archive_id": "../../etc"}',
        identity_file("0" * 31),
        identity_file("0" * 33),
        identity_file("0" * 32)[:-8],
        b"\xff\xfe",
    ],
)
def test_file_that_says_no_id_is_damaged(data: bytes, folder: int, tmp_path: Path) -> None:
    """A torn or foreign identity file is neither an id nor the lack of one."""
    (tmp_path / IDENTITY_FILE).write_bytes(data)

    assert identity_in(folder, str(tmp_path)) == DAMAGED
    assert has_identity(str(tmp_path))


def test_link_that_leads_nowhere_is_an_identity_file(tmp_path: Path) -> None:
    """Something of that name is there, so nobody may put a new id in its place."""
    (tmp_path / IDENTITY_FILE).symlink_to("nowhere")

    assert has_identity(str(tmp_path))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, f"it has no {IDENTITY_FILE} with the archive_id known"),
        (DAMAGED, f"its {IDENTITY_FILE} is damaged, the archive_id is known"),
        ("other", "it is another archive, other, and not known"),
    ],
)
def test_difference_says_what_is_wrong(found: str | None, says: str, tmp_path: Path) -> None:
    """The error tells a lost file, a damaged one and another archive apart, and names the folder and the way out."""
    assert difference(found, "known") == says
    error = stranger(str(tmp_path), says)
    assert says in str(error)
    assert str(tmp_path) in str(error)
    assert "modelwarden adopt" in str(error)
