"""A file that ends the process is found out and given up; one that was only near it is not."""

from pathlib import Path

import pytest

from modelwarden.service.attempts import DEATHS_ALLOWED, FILE, Attempts

A, B = ("/out/a.json", (1, 2, 3, 4, 5)), ("/out/b\udcff.json", (1, 3, 3, 4, 5))


def test_file_that_nothing_happened_to_is_under_no_suspicion(tmp_path: Path) -> None:
    """The usual case costs no file to be looked at alone."""
    attempts = Attempts(str(tmp_path))
    attempts.begin([A, B])
    attempts.end([A, B])

    assert Attempts(str(tmp_path)).deaths(*A) is None


def test_death_over_several_files_makes_all_suspects_and_blames_none(tmp_path: Path) -> None:
    """Which one it was shows when each is worked on alone."""
    Attempts(str(tmp_path)).begin([A, B])

    after = Attempts(str(tmp_path))

    assert (after.deaths(*A), after.deaths(*B)) == (0, 0)


def test_deaths_alone_are_counted_over_processes(tmp_path: Path) -> None:
    """As often as it takes, and no other file is blamed."""
    Attempts(str(tmp_path)).begin([A, B])
    for _ in range(DEATHS_ALLOWED):
        Attempts(str(tmp_path)).begin([A])

    after = Attempts(str(tmp_path))

    assert after.deaths(*A) == DEATHS_ALLOWED
    assert after.deaths(*B) == 0


def test_file_that_was_survived_is_cleared(tmp_path: Path) -> None:
    """It was the power, or the other one."""
    Attempts(str(tmp_path)).begin([A, B])
    second = Attempts(str(tmp_path))
    second.begin([A])
    second.end([A])

    after = Attempts(str(tmp_path))

    assert after.deaths(*A) is None
    assert after.deaths(*B) == 0


def test_file_that_changed_is_another(tmp_path: Path) -> None:
    """Mended, it gets its chance."""
    Attempts(str(tmp_path)).begin([A])

    assert Attempts(str(tmp_path)).deaths(A[0], (1, 2, 3, 9, 5)) is None


@pytest.mark.parametrize("note", [b"", b"{", b"[1]", b'{"a": 1}', b'{"a": {"figures": 3, "deaths": 1}}', b"\xff"])
def test_note_that_cant_be_read_suspects_nobody(tmp_path: Path, note: bytes) -> None:
    """It was cut off by the very death, or somebody edited it."""
    (tmp_path / FILE).write_bytes(note)

    attempts = Attempts(str(tmp_path))
    attempts.begin([A])

    assert Attempts(str(tmp_path)).deaths(*A) == 1


def test_note_that_cant_be_written_stops_nothing(tmp_path: Path) -> None:
    """A full disk has other ways to say so."""
    attempts = Attempts(str(tmp_path / "missing"))

    attempts.begin([A])
    attempts.end([A])

    assert attempts.deaths(*A) is None
