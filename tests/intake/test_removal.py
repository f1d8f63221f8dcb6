"""A source is removed only if it is the very file that was archived, whatever a trainer does in between."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelwarden import durable
from modelwarden.fingerprint import Fingerprint
from modelwarden.intake.removal import Kept, NotRemoved, Removed, remove_source
from modelwarden.intake.scan import Root, Scan, is_aside

NAME = "training_summary_20241224_153000.json"
Between = Callable[[Path], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A summary that was archived."""
    file = tmp_path / NAME
    file.write_bytes(b"archived")
    return file


def remove(path: Path) -> object:
    """Remove the file as it stands now."""
    return remove_source(str(path), Fingerprint.of(path.lstat()))


def in_between(monkeypatch: pytest.MonkeyPatch, call: str, act: Callable[[], None]) -> None:
    """Act once, just before the removal makes that call of the system."""
    acted: list[bool] = []
    real = getattr(os, call)

    def acting(*arguments: object, **options: object) -> object:
        if not acted:
            acted.append(True)
            act()
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, acting)


def renamed_over(path: Path, data: bytes = b"the next summary") -> Callable[[], None]:
    """A trainer that renames its next summary over the name."""

    def act() -> None:
        new = path.with_name("next.tmp")
        new.write_bytes(data)
        os.replace(new, path)

    return act


def overwrite(path: Path) -> None:
    """Write to the same inode."""
    path.write_bytes(b"written in place")


def test_archived_file_goes_and_leaves_nothing(path: Path) -> None:
    """The usual case."""
    assert remove(path) == Removed()
    assert os.listdir(path.parent) == []


def test_file_that_is_gone_is_removed(path: Path) -> None:
    """Somebody else was faster."""
    fingerprint = Fingerprint.of(path.lstat())
    path.unlink()
    assert remove_source(str(path), fingerprint) == Removed()


def test_next_summary_renamed_over_the_name_after_the_look_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the removal is where a new summary was lost."""
    in_between(monkeypatch, "rename", renamed_over(path))
    assert remove(path) == Kept(str(path))
    assert path.read_bytes() == b"the next summary"
    assert os.listdir(path.parent) == [NAME]


@pytest.mark.parametrize("swap", [True, False], ids=["RENAME_NOREPLACE", "no renameat2"])
def test_two_summaries_in_a_row_both_stay(path: Path, monkeypatch: pytest.MonkeyPatch, *, swap: bool) -> None:
    """The first was taken aside, the second has the name: the first stays aside, where a scan finds it."""
    if not swap:
        monkeypatch.setattr(durable, "_system_call", None)
    taken: list[bool] = []
    real = os.rename

    def rename(source: str, target: str) -> None:
        if not taken:
            taken.append(True)
            renamed_over(path, b"first")()
        real(source, target)
        if len(taken) == 1:
            taken.append(True)
            renamed_over(path, b"second")()

    monkeypatch.setattr(os, "rename", rename)
    outcome = remove(path)
    assert isinstance(outcome, Kept)
    assert Path(outcome.path).read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert {found for found, _ in Scan(Root(str(path.parent)))} == {outcome.path, str(path)}


def test_file_written_in_place_after_the_look_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same inode with other bytes is another summary."""
    in_between(monkeypatch, "rename", lambda: overwrite(path))
    assert remove(path) == Kept(str(path))
    assert path.read_bytes() == b"written in place"


def test_file_that_somebody_has_open_for_writing_stays_under_its_name(path: Path) -> None:
    """What is still written to it would be lost; it is not even renamed, which would be an event for ourselves."""
    before = path.lstat().st_ctime_ns
    with path.open("ab"):
        assert remove(path) == Kept(str(path))
        assert path.lstat().st_ctime_ns == before
    assert remove(path) == Removed()


def test_file_that_somebody_reads_goes(path: Path) -> None:
    """A reader keeps what it has open."""
    with path.open("rb") as reader:
        assert remove(path) == Removed()
        assert reader.read() == b"archived"


def test_folder_and_link_under_the_name_stay(path: Path) -> None:
    """Only a regular file was archived."""
    fingerprint = Fingerprint.of(path.lstat())
    path.unlink()
    path.mkdir()
    assert remove_source(str(path), fingerprint) == Kept(str(path))
    path.rmdir()
    path.symlink_to("elsewhere")
    assert remove_source(str(path), fingerprint) == Kept(str(path))


@pytest.mark.parametrize("refused", ["rename", "unlink"])
def test_refused_removal_leaves_the_file_under_its_name(
    path: Path, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system says no the reason is told, and nothing is left aside."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, refused, refuse)
        assert remove(path) == NotRemoved("Permission denied")
    assert os.listdir(path.parent) == [NAME]
    assert path.read_bytes() == b"archived"


@pytest.mark.parametrize("name", ["a.json", "ä" * 120 + ".json", "x" * 250 + ".json"])
def test_file_left_aside_by_a_death_is_found_and_removed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two steps leaves no litter: the next scan sees the file, whatever it is called."""
    path = tmp_path / name
    path.write_bytes(b"archived")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(path)
    ((left, fingerprint),) = Scan(Root(str(tmp_path), patterns=("training_*.json",)))
    assert is_aside(os.path.basename(left))
    assert remove_source(left, fingerprint) == Removed()
    assert os.listdir(tmp_path) == []
